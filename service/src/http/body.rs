//! Bodies that tell of themselves: that of an answer, who is waited for, us or the peer; that of a request, how it ended.

use super::activity::Busy;
use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
};
use hyper::body::{Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

/// A body that is given away part by part. It is asked for the next part only while there is room for it.
pub(super) struct Answering {
    body: Body,
    busy: Busy,
}

impl Answering {
    /// The head is given away.
    pub(super) fn new(body: Body, mut busy: Busy) -> Self {
        busy.gave(true);
        Self { body, busy }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.busy.gave(frame.is_ready());
        self.busy.rest(frame.is_pending());
        frame
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    /// Of a chunked body: what tells of its end.
    end: Option<ChunkedEnd>,
    has_trailers: bool,
}

/// Whether a chunked body was read to its end, without trailers.
#[derive(Clone, Debug, Default)]
pub(super) struct ChunkedEnd(Arc<AtomicBool>);

impl RequestBody {
    pub(super) fn new(body: Incoming, end: Option<ChunkedEnd>) -> Self {
        Self { body, end, has_trailers: false }
    }
}

impl ChunkedEnd {
    /// Whether all agree where the body ended. hyper 1.12 looks for an empty line of CRLF behind trailers, and then reads them
    /// with bare LF as line ends too: what lies between an empty line of LF and that of CRLF is another request for proxies.
    pub(super) fn is_clear(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.has_trailers |= frame.is_trailers(),
            Some(Err(_)) => {}
            None if self.has_trailers => {}
            None => self.end.iter().for_each(|end| end.0.store(true, Relaxed)),
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
