//! Why the admin API refused a request.

use crate::{ROOMS_MAX, metrics::REFUSED};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eventlog::PutError;
use metrics::counter;
use service::Problem;
use wire::{NameError, RoomName};

/// After so many seconds a log that was away may be back.
const RETRY_S: u32 = 2;

/// The text says what was wrong, and what would be right.
#[derive(Debug)]
pub(super) enum Refusal {
    Off,
    NoToken,
    WrongToken,
    Role {
        role: &'static str,
        needs: &'static str,
    },
    RoomName(NameError),
    RoomEncoding,
    NoOrders(RoomName),
    Method,
    IfMatch,
    BodyTooLong(usize),
    Body(String),
    Unprocessable(String),
    TooManyRooms,
    /// With the newest version, where there is one.
    Conflict(Option<u64>),
    NotRead,
    Log(PutError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Off | Self::NoOrders(_) => StatusCode::NOT_FOUND,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Role { .. } => StatusCode::FORBIDDEN,
            Self::RoomName(_) | Self::RoomEncoding | Self::IfMatch | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unprocessable(_) | Self::TooManyRooms => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) | Self::Log(PutError::Conflict { .. }) => StatusCode::CONFLICT,
            Self::Log(PutError::Unsupported) => StatusCode::NOT_IMPLEMENTED,
            Self::NotRead | Self::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Off => "the admin API is off: set admin.view_token, admin.produce_token or \
                          admin.operate_token"
                .into(),
            Self::NoToken => "send one of the configured tokens as `Authorization: Bearer TOKEN`".into(),
            Self::WrongToken => "the token is none of those that are configured (section admin)".into(),
            Self::Role { role, needs } => {
                format!("the token is of role {role}, and this needs the role {needs}")
            }
            Self::RoomName(error) => error.to_string(),
            Self::RoomEncoding => "the room in the path is not UTF-8 after percent-decoding".into(),
            Self::NoOrders(room) => format!("nothing is ordered of room {room}; PUT declares it"),
            Self::Method => "orders are read by GET, changed by PUT and forgotten by DELETE".into(),
            Self::IfMatch => "If-Match must be one version, as an answer's ETag has it, or *".into(),
            Self::BodyTooLong(most) => format!("the body is longer than {most} bytes"),
            Self::Body(why) => format!("the body is not JSON: {why}"),
            Self::Unprocessable(why) => why.clone(),
            Self::TooManyRooms => {
                format!("{ROOMS_MAX} rooms have orders, which is the limit: forget some by DELETE")
            }
            Self::Conflict(Some(version)) => {
                format!("a newer order exists, version {version}: GET it, then send your change again")
            }
            Self::Conflict(None) => {
                "the room's orders were forgotten meanwhile: send your change again without If-Match".into()
            }
            Self::NotRead => "the orders were not read yet, because the event log is away: try again".into(),
            Self::Log(PutError::Unsupported) => "this event log keeps no orders".into(),
            Self::Log(PutError::Unknown(why)) => {
                format!("the order may have been written or not ({why}): GET it, then try again")
            }
            Self::Log(error) => format!("nothing was changed, try again: {error}"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        counter!(REFUSED, "status" => status.as_str().to_owned()).increment(1);
        let problem = Problem::new(status, self.text());
        match status {
            StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(RETRY_S).into_response(),
            StatusCode::UNAUTHORIZED => {
                let mut response = problem.into_response();
                let challenge = HeaderValue::from_static("Bearer realm=\"uproar\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                let mut response = problem.into_response();
                let allowed = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
                response.headers_mut().insert(header::ALLOW, allowed);
                response
            }
            _ => problem.into_response(),
        }
    }
}
