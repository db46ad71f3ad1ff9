//! The socket of a connection, which tells the connection's activity what moves.

use super::activity::Activity;
use bytes::Bytes;
use hyper::{
    rt::{Read, ReadBufCursor, Write},
    upgrade::Upgraded,
};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use std::{
    io::{self, IoSlice},
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
        downcast::<Socket>(upgraded).map_err(|_| io::Error::other("not a connection of this server"))?;
    let Socket { io, before, .. } = parts.io;
    let read = if before.is_empty() { parts.read_buf } else { [parts.read_buf, before].concat().into() };
    Ok((io.into_inner().into_std()?, read))
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

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(context)
    }
}
