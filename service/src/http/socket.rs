//! The socket of a connection, which tells the connection's activity what moves.

use super::activity::Activity;
use bytes::Bytes;
use hyper::{
    rt::{Read, ReadBufCursor, Write},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::net::TcpStream;

pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    /// Was read already, and comes first.
    before: Bytes,
    activity: Arc<Activity>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, before: Bytes, activity: Arc<Activity>) -> Self {
        Self { io: TokioIo::new(stream), before, activity }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().io)
    }
}

/// The socket of a connection that was upgraded, and what was read from it already.
pub fn into_socket(upgraded: Upgraded) -> io::Result<(std::net::TcpStream, Bytes)> {
    let parts =
        upgraded.downcast::<Socket>().map_err(|_| io::Error::other("not a connection of this server"))?;
    let Socket { io, before, .. } = parts.io;
    let read = if before.is_empty() { parts.read_buf } else { [parts.read_buf, before].concat().into() };
    Ok((io.into_inner().into_std()?, read))
}

/// Whether the peer has reset the connection. A peer that only ended its side may still wait for an answer (RFC 9112,
/// section 9.6), and can't be told from one that closed the connection.
pub(super) fn is_reset(stream: &TcpStream) -> bool {
    !matches!(SockRef::from(stream).take_error(), Ok(None))
}

/// Whether the peer has ended its side, and nothing that it sent is left.
fn has_ended(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(0))
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let length = buffer.remaining().min(self.before.len());
            buffer.put_slice(&self.before.split_to(length));
            self.activity.read();
            return Poll::Ready(Ok(()));
        }
        ready!(self.as_mut().io().poll_read(context, buffer))?;
        self.activity.read();
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.as_mut().io().poll_write(context, bytes))?;
        self.activity.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.as_mut().io().poll_write_vectored(context, slices))?;
        self.activity.wrote();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The library flushes each time that it is polled, also while an answer is waited for.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A viewer of a stream that ended its side is taken for gone once it has what there is: else it would keep its place
        // until the next part is written, and those that close are many.
        let is_gone =
            |stream: &TcpStream| is_reset(stream) || self.activity.only_streams_rest() && has_ended(stream);
        if self.activity.take_peer_check() && is_gone(self.io.inner()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.io().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(context)
    }
}
