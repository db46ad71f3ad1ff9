//! Why a request was not answered 202: one variant a cause, sorted by what the client does next.

use axum::http::StatusCode;
use service::Problem;
use wire::NameError;

/// Wait so long before a retry when the cause is a matter of this moment.
const RETRY_SOON_S: u32 = 1;
/// Wait so long before a retry when the cause may last.
const RETRY_LATER_S: u32 = 5;

/// Why a request was refused. The text is for whoever wrote the client: what was wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    // Mend the request.
    #[error("{0}")]
    RoomName(NameError),
    #[error("the room in the path is not UTF-8 after percent-decoding; room names need no escaping")]
    RoomEncoding,
    #[error(
        "the body is not as expected: {0}. Send {{\"reaction\":\"🔥\"}}, {{\"reaction\":\"🔥\",\"count\":7}} or {{\"reactions\":{{\"🔥\":7,\"👏\":2}}}}"
    )]
    Body(String),
    #[error("the body broke off before its end; send it again")]
    BodyBroken,
    #[error("the body did not arrive within {0} ms; send it in one go")]
    BodySlow(u64),
    #[error("the body is longer than {0} bytes; send fewer reactions in a request")]
    BodyTooLong(usize),
    #[error("there is no room {0:?} here; only the rooms that the operator declared take reactions")]
    RoomUnknown(String),
    #[error("nothing is here; reactions are sent by POST to /v1/rooms/{{room}}/reactions")]
    RouteUnknown,
    #[error("reactions are sent by POST")]
    Method,
    #[error("send the body as application/json in UTF-8 (text/plain is taken too, for navigator.sendBeacon)")]
    ContentType,
    #[error("send the body without Content-Encoding")]
    ContentEncoding,
    #[error("`reactions` is empty; name at least one reaction")]
    NoReaction,
    #[error("{0}")]
    Reaction(#[from] NameError),
    #[error("{reaction:?} is not in the catalogue; allowed are: {allowed}")]
    NotInCatalogue { reaction: String, allowed: String },
    #[error("the count of {reaction:?} must be 1 to {max}, is {count}")]
    Count { reaction: String, count: u64, max: u64 },
    #[error("a request may hold at most {0} distinct reactions; split it")]
    TooManyReactions(usize),
    #[error("a client may send at most {burst} reactions at once, and this request has {count}; split it")]
    OverBurst { count: u64, burst: u64 },
    #[error(
        "Idempotency-Key must be one key of 1 to 64 visible ASCII characters, in quotes or bare, such as a UUID"
    )]
    KeyMalformed,
    #[error(
        "this server keeps no idempotency keys; send without Idempotency-Key: then a repeat counts again"
    )]
    KeysOff,
    #[error("the Idempotency-Key was used for another body; a key belongs to one request and its repeats")]
    KeyReused,

    // Not counted; the client was too fast: wait, then try again.
    #[error("a client may send {per_s} {what} a second; not counted, try again in {wait_s} s")]
    TooFast { what: &'static str, per_s: u64, wait_s: u32 },
    #[error(
        "as many clients are active as are told apart, and those beyond share a limit of {per_s} {what} a second; not counted, try again in {wait_s} s"
    )]
    TooFastTogether { what: &'static str, per_s: u64, wait_s: u32 },

    // Not counted; the room is busy: try again.
    #[error(
        "the room has {0} distinct reactions waiting to be committed, which is the limit; not counted, try again"
    )]
    RoomTooDiverse(usize),
    #[error("the room has too many reactions waiting to be committed; not counted, try again")]
    RoomTooMany,

    // Not counted; this server is in trouble: try again, or elsewhere.
    #[error("the server is starting; not counted, try again")]
    Starting,
    #[error("the server is shutting down; not counted, try again elsewhere")]
    Draining,
    #[error("{0} requests are waiting, which is the limit; not counted, try again")]
    TooManyWaiting(usize),
    #[error("{0} rooms have reactions waiting to be committed, which is the limit; not counted, try again")]
    TooManyRooms(usize),
    #[error(
        "about {0} requests with an Idempotency-Key are remembered, which is the limit; not counted, try again, or without a key"
    )]
    KeysFull(usize),
    #[error("the event log took nothing of this room's partition for {0} ms; not counted, try again")]
    Stalled(u64),
    #[error("the event log did not take the reactions; not counted, try again")]
    NotWritten,

    // Perhaps counted.
    #[error(
        "not known to be durable after {0} ms; the reactions may have been counted, or may be yet: sent again, they may count twice, unless with the Idempotency-Key that they had"
    )]
    TimedOut(u64),
    #[error(
        "the event log did not say whether it took the reactions; they may have been counted: sent again, they may count twice, unless with the Idempotency-Key that they had"
    )]
    Unknown,
}

impl Refusal {
    /// Status, the cause as metrics have it, and when to try again.
    fn class(&self) -> (StatusCode, &'static str, Option<u32>) {
        use StatusCode as S;
        match self {
            Self::RoomName(_) => (S::BAD_REQUEST, "room_name", None),
            Self::RoomEncoding => (S::BAD_REQUEST, "room_name", None),
            Self::Body(_) => (S::BAD_REQUEST, "body", None),
            Self::BodyBroken => (S::BAD_REQUEST, "body_broken", None),
            Self::BodySlow(_) => (S::REQUEST_TIMEOUT, "body_slow", None),
            Self::BodyTooLong(_) => (S::PAYLOAD_TOO_LARGE, "body_too_long", None),
            Self::RoomUnknown(_) => (S::NOT_FOUND, "room_unknown", None),
            Self::RouteUnknown => (S::NOT_FOUND, "route_unknown", None),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method", None),
            Self::ContentType => (S::UNSUPPORTED_MEDIA_TYPE, "content_type", None),
            Self::ContentEncoding => (S::UNSUPPORTED_MEDIA_TYPE, "content_encoding", None),
            Self::NoReaction => (S::UNPROCESSABLE_ENTITY, "no_reaction", None),
            Self::Reaction(_) => (S::UNPROCESSABLE_ENTITY, "reaction", None),
            Self::NotInCatalogue { .. } => (S::UNPROCESSABLE_ENTITY, "not_in_catalogue", None),
            Self::Count { .. } => (S::UNPROCESSABLE_ENTITY, "count", None),
            Self::TooManyReactions(_) => (S::UNPROCESSABLE_ENTITY, "too_many_reactions", None),
            Self::OverBurst { .. } => (S::UNPROCESSABLE_ENTITY, "over_burst", None),
            Self::KeyMalformed => (S::BAD_REQUEST, "idempotency_key", None),
            Self::KeysOff => (S::BAD_REQUEST, "idempotency_off", None),
            Self::KeyReused => (S::UNPROCESSABLE_ENTITY, "idempotency_reused", None),
            Self::TooFast { wait_s, .. } => (S::TOO_MANY_REQUESTS, "too_fast", Some(*wait_s)),
            Self::TooFastTogether { wait_s, .. } => {
                (S::TOO_MANY_REQUESTS, "too_fast_together", Some(*wait_s))
            }
            // 429 and not 503: it is about one room. A 503 would let balancers take the whole server for sick.
            Self::RoomTooDiverse(_) => (S::TOO_MANY_REQUESTS, "room_too_diverse", Some(RETRY_SOON_S)),
            Self::RoomTooMany => (S::TOO_MANY_REQUESTS, "room_too_many", Some(RETRY_SOON_S)),
            Self::Starting => (S::SERVICE_UNAVAILABLE, "starting", Some(RETRY_LATER_S)),
            Self::Draining => (S::SERVICE_UNAVAILABLE, "draining", Some(RETRY_SOON_S)),
            Self::TooManyWaiting(_) => (S::SERVICE_UNAVAILABLE, "too_many_waiting", Some(RETRY_SOON_S)),
            Self::TooManyRooms(_) => (S::SERVICE_UNAVAILABLE, "too_many_rooms", Some(RETRY_SOON_S)),
            Self::KeysFull(_) => (S::SERVICE_UNAVAILABLE, "idempotency_full", Some(RETRY_LATER_S)),
            Self::Stalled(_) => (S::SERVICE_UNAVAILABLE, "stalled", Some(RETRY_LATER_S)),
            Self::NotWritten => (S::SERVICE_UNAVAILABLE, "not_written", Some(RETRY_SOON_S)),
            Self::TimedOut(_) => (S::GATEWAY_TIMEOUT, "timed_out", None),
            Self::Unknown => (S::GATEWAY_TIMEOUT, "unknown", None),
        }
    }

    /// The cause, as metrics have it.
    pub(crate) fn cause(&self) -> &'static str {
        self.class().1
    }

    /// The answer.
    pub(crate) fn problem(&self) -> Problem {
        let (status, _, retry_after_s) = self.class();
        let problem = Problem::new(status, self.to_string());
        match retry_after_s {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }
}
