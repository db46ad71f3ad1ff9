//! Why a request got no history: one variant a cause.

use super::NOSNIFF;
use crate::{POINTS_MAX, metrics::REFUSED};
use axum::{
    http::{HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
};
use metrics::counter;
use service::Problem;
use wire::NameError;

/// Seconds after which a refused request may be tried again.
const RETRY_AFTER_S: u32 = 1;

/// Why a request got no history. The text is for the author of the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    // Mend the request.
    #[error("{0}")]
    RoomName(NameError),
    #[error("the room in the path is not UTF-8 after percent-decoding; room names need no escaping")]
    RoomEncoding,
    #[error("unknown parameter {0:?}: ask with ?from=&to=&step=, each of which may be left out")]
    Parameter(String),
    #[error("{0} comes twice")]
    Repeated(String),
    #[error(
        "{0} has to be a time: ms since the epoch, or RFC 3339 such as 2026-11-30T20:15:00Z (percent-encode a \"+\")"
    )]
    Time(&'static str),
    #[error("step has to be a number of ms above 0")]
    Step,
    #[error("from ({from_ms}) has to be before to ({to_ms})")]
    Backwards { from_ms: u64, to_ms: u64 },
    #[error("a step is at least one window, {window_ms} ms")]
    ShortStep { window_ms: u64 },
    #[error("this range has {points} points: at most {POINTS_MAX}; step={fits_ms} fits")]
    TooManyPoints { points: u64, fits_ms: u64 },
    #[error("this range has more than {0} windows with reactions: ask for a shorter range")]
    TooManyWindows(usize),
    #[error("this resource can be read only, not {0}")]
    Method(Method),

    // Nothing to see.
    #[error("room {0} has no history: nobody has reacted in it, or not for as long as the history is kept")]
    NoRoom(String),
    #[error("this server keeps no history (log.history_retention_ms)")]
    Off,

    // Try again, or elsewhere.
    #[error("this node is still reading the log")]
    Starting,
    #[error("as many requests for the history are answered as this node allows (history.max_queries)")]
    Busy,
    #[error("the history can't be read now")]
    Failed,
}

impl Refusal {
    /// Status, the cause, and whether metrics count it.
    fn class(&self) -> (StatusCode, &'static str, bool) {
        use StatusCode as S;
        match self {
            Self::RoomName(_) | Self::RoomEncoding => (S::BAD_REQUEST, "room_name", false),
            Self::Parameter(_) | Self::Repeated(_) | Self::Time(_) | Self::Step | Self::Backwards { .. } => {
                (S::BAD_REQUEST, "range", false)
            }
            Self::ShortStep { .. } => (S::UNPROCESSABLE_ENTITY, "short_step", false),
            Self::TooManyPoints { .. } => (S::UNPROCESSABLE_ENTITY, "too_many_points", false),
            Self::TooManyWindows(_) => (S::UNPROCESSABLE_ENTITY, "too_many_windows", true),
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, "method", false),
            Self::NoRoom(_) => (S::NOT_FOUND, "no_room", false),
            Self::Off => (S::NOT_FOUND, "off", false),
            Self::Starting => (S::SERVICE_UNAVAILABLE, "starting", true),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", true),
            Self::Failed => (S::SERVICE_UNAVAILABLE, "failed", true),
        }
    }

    pub(crate) fn cause(&self) -> &'static str {
        self.class().1
    }

    /// The answer.
    pub(crate) fn problem(&self) -> Problem {
        let (status, ..) = self.class();
        let problem = Problem::new(status, self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(RETRY_AFTER_S) } else { problem }
    }
}

/// Counts the refusal, and answers.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (_, cause, is_counted) = self.class();
        if is_counted {
            counter!(REFUSED, "cause" => cause).increment(1);
        }
        let mut response = self.problem().into_response();
        let (name, value) = NOSNIFF;
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}
