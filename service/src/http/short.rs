//! The short way: plain requests of HTTP/1.1 (`plain`), read from and answered to the socket without the HTTP library.
//!
//! A connection begins here, and is given to the library for good with its first request that is not plain, or that its app
//! doesn't take here. The library then gets all bytes from that request's start, so it finds what it would have found.

use super::{
    Answer, App,
    activity::Activity,
    offer::Taker,
    plain::{self, Bounds, Plain, Seen},
    socket::is_reset,
};
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    task::coop::consume_budget,
    time::{Sleep, sleep},
};

/// The longest plain request, and what is read at once.
const WHOLE_MAX: usize = 16_384;

/// A request that comes in more pieces is the library's: the pieces are looked at again with each that comes.
const PIECES_MAX: u32 = 4;
/// A request that isn't whole after this is the library's, which knows deadlines. Head and body often come apart, but not so
/// long.
const MOMENT: Duration = Duration::from_millis(500);

thread_local! {
    /// What is read; so a connection that rests has no buffer.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; WHOLE_MAX]);
    /// What is written.
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection on the short way.
pub(super) struct Short<A: App> {
    pub(super) app: A,
    pub(super) guest: A::Guest,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<Activity>,
    pub(super) max_head: usize,
    /// What was read and not answered: the start of a request, or those that came behind one.
    pub(super) kept: BytesMut,
}

/// How the short way ended.
#[derive(Debug)]
pub(super) enum End {
    /// The connection is closed, or to be closed.
    Closed,
    /// The library is to go on.
    Unusual,
    /// Somebody else is to go on with the socket.
    Taken(Taker),
}

impl<A: App> Short<A> {
    /// Answers plain requests, one after the other.
    pub(super) async fn serve(&mut self) -> End {
        let Self { app, guest, stream, peer, activity, max_head, kept } = self;
        let bounds = Bounds { head: WHOLE_MAX.min(*max_head), whole: WHOLE_MAX };
        loop {
            let reader = Reader { stream, activity, kept, bounds, pieces: 0, moment: None };
            // In its place from the start: it may be long, and to move it would cost as much as to parse a head.
            let mut answer = pin!(None);
            let mut closes = false;
            let read = reader.read(|request| {
                closes = request.closes;
                answer.set(app.plain(request, *peer, guest));
                answer.is_some()
            });
            if let Err(end) = read.await {
                return end;
            }
            let Some(mut answer) = answer.as_pin_mut() else { return End::Unusual };
            let busy = activity.request(false);
            let answer = poll_fn(|context| match answer.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if activity.take_peer_check() && is_reset(stream) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            // A peer that is gone gives its place to others at once.
            let Some(answer) = answer.await else { return End::Closed };
            drop(busy);
            let last = closes || activity.leave().is_some();
            if write(stream, activity, &answer, last).await.is_err() {
                return End::Closed;
            }
            if let Some(taker) = answer.taker() {
                return End::Taken(taker);
            }
            if last {
                return End::Closed;
            }
            if !kept.is_empty() {
                consume_budget().await;
            }
        }
    }
}

/// Reads one request.
struct Reader<'a> {
    stream: &'a mut TcpStream,
    activity: &'a Activity,
    kept: &'a mut BytesMut,
    bounds: Bounds,
    pieces: u32,
    /// Runs while a part of a request is there.
    moment: Option<Pin<Box<Sleep>>>,
}

impl Reader<'_> {
    /// Reads until `take` has taken a request.
    async fn read(mut self, mut take: impl FnMut(&Plain<'_>) -> bool) -> Result<(), End> {
        if !self.kept.is_empty()
            && let Some(end) = self.look_at_kept(&mut take)
        {
            return end;
        }
        poll_fn(|context| READ.with_borrow_mut(|buffer| self.poll(context, buffer, &mut take))).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        mut take: impl FnMut(&Plain<'_>) -> bool,
    ) -> Poll<Result<(), End>> {
        loop {
            // There is room: so much in one piece would have been whole or unusual.
            let mut read = ReadBuf::new(&mut buffer[..self.bounds.whole - self.kept.len()]);
            match Pin::new(&mut *self.stream).poll_read(context, &mut read) {
                Poll::Pending => return self.wait(context).map(Err),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Closed)),
                Poll::Ready(Ok(())) => self.activity.read(),
            }
            let read = match read.filled() {
                [] if self.kept.is_empty() => Some(Err(End::Closed)),
                // It broke off.
                [] => Some(Err(End::Unusual)),
                fresh if self.kept.is_empty() => self.look_at(fresh, &mut take),
                more => {
                    self.kept.extend_from_slice(more);
                    self.look_at_kept(&mut take)
                }
            };
            if let Some(end) = read {
                return Poll::Ready(end);
            }
            self.pieces += 1;
            if self.pieces > PIECES_MAX {
                return Poll::Ready(Err(End::Unusual));
            }
        }
    }

    /// Nothing was kept: what is read, and needed no more, is never copied.
    fn look_at(&mut self, fresh: &[u8], take: impl FnMut(&Plain<'_>) -> bool) -> Option<Result<(), End>> {
        let seen = plain::look(fresh, self.bounds, take);
        let used = if let Seen::Whole(length) = seen { length } else { 0 };
        if used < fresh.len() {
            self.kept.extend_from_slice(&fresh[used..]);
        }
        so_far(seen)
    }

    fn look_at_kept(&mut self, take: impl FnMut(&Plain<'_>) -> bool) -> Option<Result<(), End>> {
        let seen = plain::look(self.kept, self.bounds, take);
        if let Seen::Whole(length) = seen {
            self.kept.advance(length);
        }
        if self.kept.is_empty() {
            // Gives its memory back.
            *self.kept = BytesMut::new();
        }
        so_far(seen)
    }

    /// No more bytes were read: for how long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.kept.is_empty() {
            // Of a connection that was just accepted tokio knows no bytes yet, and one that leaves answers what has come.
            let leaves = self.activity.leave().is_some() && !has_bytes(self.stream);
            return if leaves { Poll::Ready(End::Closed) } else { Poll::Pending };
        }
        let moment = self.moment.get_or_insert_with(|| Box::pin(sleep(MOMENT)));
        moment.as_mut().poll(context).map(|()| End::Unusual)
    }
}

/// Whether there are bytes to be read.
fn has_bytes(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(1..))
}

/// `None`: more has to be read.
fn so_far(seen: Seen) -> Option<Result<(), End>> {
    match seen {
        Seen::Whole(_) => Some(Ok(())),
        Seen::Part => None,
        Seen::Unusual => Some(Err(End::Unusual)),
    }
}

/// Writes an answer: nearly always at once.
async fn write(stream: &mut TcpStream, activity: &Activity, answer: &Answer, last: bool) -> io::Result<()> {
    let rest = WRITTEN.with_borrow_mut(|bytes| {
        bytes.clear();
        answer.write(bytes, activity.tick(), last);
        let written = match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        io::Result::Ok(bytes[written..].to_vec())
    })?;
    if !rest.is_empty() {
        stream.write_all(&rest).await?;
    }
    activity.wrote();
    Ok(())
}

#[cfg(test)]
mod tests;
