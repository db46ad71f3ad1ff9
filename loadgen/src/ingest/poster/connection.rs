//! One connection of a poster, and what is under way on it.

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

/// A request without an answer yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// As in [`super::Requests`].
    pub(crate) what: usize,
    /// Where there is a schedule.
    pub(crate) due: Option<Instant>,
    pub(crate) sent: Instant,
    /// Its time counts.
    pub(crate) timed: bool,
}

/// A connection; closed at first.
pub(super) struct Connection {
    stream: Option<TcpStream>,
    /// In the order of their answers.
    pub(super) under_way: VecDeque<Sent>,
    /// The beginning of an answer.
    pub(super) partial: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

impl Connection {
    pub(super) fn new(pipeline: usize) -> Self {
        let under_way = VecDeque::with_capacity(pipeline);
        Self { stream: None, under_way, partial: Vec::new(), unsent: Vec::new() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Connects, and waits until that is done.
    pub(super) fn open(
        &mut self,
        to: SocketAddr,
        from: Option<Ipv4Addr>,
        within: Duration,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        // Closing resets the connection: thousands in TIME_WAIT would be in the way of the next round.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect_timeout(&to.into(), within)?;
        socket.set_nonblocking(true)?;
        let stream = self.stream.insert(TcpStream::from_std(socket.into()));
        registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Closes it; what was under way.
    pub(super) fn close(&mut self) -> Vec<Sent> {
        self.stream = None;
        self.partial.clear();
        self.unsent.clear();
        self.under_way.drain(..).collect()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes now what the socket takes, and the rest when it takes more. A connection that is broken says so when it is
    /// read.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let mut written = 0;
        if self.unsent.is_empty()
            && let Some(stream) = &mut self.stream
        {
            written = stream.write(bytes).unwrap_or(0);
        }
        self.unsent.extend_from_slice(&bytes[written..]);
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self) {
        while let Some(stream) = &mut self.stream
            && !self.unsent.is_empty()
        {
            match stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(_) => return,
            }
        }
    }
}
