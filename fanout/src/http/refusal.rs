//! Why a request got no frame: one variant a cause.

use super::NOSNIFF;
use crate::{busiest::ROOMS_MAX, metrics::refused, registry::Full, websocket::Unfit};
use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use service::Problem;
use wire::NameError;

/// Seconds after which a refused request may be tried again.
const RETRY_AFTER_S: u32 = 1;
/// What 426 has to say in headers (RFC 9110, 15.5.22; RFC 6455, 4.4).
const UPGRADE: [(header::HeaderName, &str); 3] =
    [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_VERSION, "13")];

/// Why a request got no frame. The text is for whoever wrote the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    // Mend the request.
    #[error("{0}")]
    RoomName(NameError),
    #[error("the room in the path is not UTF-8 after percent-decoding; room names need no escaping")]
    RoomEncoding,
    #[error("unknown parameter {0:?}: ask with ?room=a&room=b")]
    Parameter(String),
    #[error("a viewer may name {0} rooms at most")]
    TooManyRooms(usize),
    #[error("which rooms? ask with ?room=a&room=b")]
    NoRoom,
    #[error("ask with ?limit=, from 1 to {ROOMS_MAX}")]
    Limit,
    #[error("this server does not list its rooms (fanout.list_rooms)")]
    Unlisted,
    #[error("this resource can be read only, not {0}")]
    Method(Method),
    #[error("this resource is a WebSocket (RFC 6455), which is opened with GET, not {0}")]
    NotGet(Method),
    #[error(
        "this resource is a WebSocket with the subprotocol \"mqtt\": Sec-WebSocket-Protocol has to offer it"
    )]
    Subprotocol,
    #[error("this resource is a WebSocket (RFC 6455): {}", why(*.0))]
    Unfit(Unfit),

    // Nothing to see yet.
    #[error("room {0} has no frame: nobody has reacted in it, or its first window is still open")]
    NoFrame(String),

    // Try again, or elsewhere.
    #[error("this node is still reading the log")]
    Starting,
    #[error("this node is about to stop, connect again to reach another")]
    Draining,
    #[error("{}", .0.why().1)]
    Full(Full),
}

fn why(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::NoUpgrade => "ask with Connection: upgrade, Upgrade: websocket",
        Unfit::Version => "Sec-WebSocket-Version has to be 13",
        Unfit::Key => "Sec-WebSocket-Key has to be 16 bytes in Base64",
        Unfit::Body => "the request that opens it has no body",
    }
}

impl Refusal {
    /// Status, the cause, and whether metrics count it.
    fn class(&self) -> (StatusCode, &'static str, bool) {
        use StatusCode as S;
        match self {
            Self::RoomName(_) | Self::RoomEncoding => (S::BAD_REQUEST, "room_name", true),
            Self::Parameter(_) | Self::TooManyRooms(_) | Self::NoRoom => (S::BAD_REQUEST, "room_name", true),
            Self::Limit => (S::BAD_REQUEST, "limit", false),
            Self::Unlisted => (S::NOT_FOUND, "unlisted", false),
            Self::Method(_) | Self::NotGet(_) => (S::METHOD_NOT_ALLOWED, "method", false),
            Self::Subprotocol | Self::Unfit(Unfit::Key | Unfit::Body) => {
                (S::BAD_REQUEST, "not_websocket", true)
            }
            Self::Unfit(_) => (S::UPGRADE_REQUIRED, "not_websocket", true),
            Self::NoFrame(_) => (S::NOT_FOUND, "no_frame", false),
            Self::Starting => (S::SERVICE_UNAVAILABLE, "starting", true),
            Self::Draining => (S::SERVICE_UNAVAILABLE, "draining", true),
            Self::Full(full) => (S::SERVICE_UNAVAILABLE, full.why().0, true),
        }
    }

    pub(super) fn cause(&self) -> &'static str {
        self.class().1
    }

    /// The answer.
    pub(super) fn problem(&self) -> Problem {
        let (status, ..) = self.class();
        let problem = Problem::new(status, self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(RETRY_AFTER_S) } else { problem }
    }
}

/// Counts the refusal, and answers.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, cause, counted) = self.class();
        if counted {
            refused(cause);
        }
        let mut response = self.problem().into_response();
        let (name, value) = NOSNIFF;
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        if let Self::NotGet(_) = self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            for (name, value) in UPGRADE {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        response
    }
}
