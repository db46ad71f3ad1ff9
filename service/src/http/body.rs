//! The body of an answer, which tells the connection's activity who is waited for: us, or the peer.

use super::activity::Busy;
use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
};
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
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
        frame
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
