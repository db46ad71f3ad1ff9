//! Why a request was not answered 202: one variant a cause, sorted by what the client does next.

use crate::metrics::{CAUSES, cause_index};
use axum::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use service::{Problem, http::Answer};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::OnceLock,
    time::Duration,
};
use wire::NameError;

/// Seconds to wait before a retry when the cause is a matter of this moment. A random one of them, so that clients which
/// were refused together don't come back together.
const RETRY_SOON_S: (u32, u32) = (1, 3);
/// Seconds to wait before a retry when the cause may last.
const RETRY_LATER_S: (u32, u32) = (5, 10);
/// Seconds that are added at random to a wait that many clients share.
const RETRY_SPREAD_S: u32 = 3;

/// The bodies of refusals without parameters, by the index of their cause: made once.
static FIXED_BODIES: [OnceLock<Bytes>; CAUSES.len()] = [const { OnceLock::new() }; CAUSES.len()];

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
    #[error(
        "pages of the origin in this request may not post here; the operator lists the origins that may in ingest.cors_origins"
    )]
    Origin,
    #[error("there is no room {0:?} here; only the rooms that the operator declared take reactions")]
    RoomUnknown(String),
    #[error("the room is closed; not counted. Its frames tell when it is open again")]
    RoomClosed,
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
    #[error("\"{reaction}\" is not in the catalogue; allowed are: {allowed}")]
    NotInCatalogue { reaction: String, allowed: String },
    #[error("the count of \"{reaction}\" must be 1 to {max}, is {count}")]
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

    #[error(
        "as many requests with an Idempotency-Key of this client are remembered as its share allows; not counted, try again in {wait_s} s, or without a key"
    )]
    KeysShare { wait_s: u32 },

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
    #[error(
        "{0} rooms of this room's partition have reactions waiting to be committed, which is the limit; not counted, try again"
    )]
    TooManyRooms(usize),
    #[error(
        "about {max} requests with an Idempotency-Key are remembered, which is the limit; not counted, try again in {wait_s} s, or without a key"
    )]
    KeysFull { max: usize, wait_s: u32 },
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

/// When a client may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// A retry doesn't help.
    Never,
    /// After one of these seconds, first and last.
    Within((u32, u32)),
    /// After this many seconds.
    After(u32),
}

impl Refusal {
    /// Status, the cause as metrics have it, and when to try again.
    fn class(&self) -> (StatusCode, &'static str, Retry) {
        use StatusCode as S;
        let (never, soon, later) = (Retry::Never, Retry::Within(RETRY_SOON_S), Retry::Within(RETRY_LATER_S));
        match self {
            Self::RoomName(_) => (S::BAD_REQUEST, "room_name", never),
            Self::RoomEncoding => (S::BAD_REQUEST, "room_name", never),
            Self::Body(_) => (S::BAD_REQUEST, "body", never),
            Self::BodyBroken => (S::BAD_REQUEST, "body_broken", never),
            Self::BodySlow(_) => (S::REQUEST_TIMEOUT, "body_slow", never),
            Self::BodyTooLong(_) => (S::PAYLOAD_TOO_LARGE, "body_too_long", never),
            Self::Origin => (S::FORBIDDEN, "origin", never),
            Self::RoomUnknown(_) => (S::NOT_FOUND, "room_unknown", never),
            Self::RoomClosed => (S::FORBIDDEN, "room_closed", never),
            Self::RouteUnknown => (S::NOT_FOUND, "route_unknown", never),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method", never),
            Self::ContentType => (S::UNSUPPORTED_MEDIA_TYPE, "content_type", never),
            Self::ContentEncoding => (S::UNSUPPORTED_MEDIA_TYPE, "content_encoding", never),
            Self::NoReaction => (S::UNPROCESSABLE_ENTITY, "no_reaction", never),
            Self::Reaction(_) => (S::UNPROCESSABLE_ENTITY, "reaction", never),
            Self::NotInCatalogue { .. } => (S::UNPROCESSABLE_ENTITY, "not_in_catalogue", never),
            Self::Count { .. } => (S::UNPROCESSABLE_ENTITY, "count", never),
            Self::TooManyReactions(_) => (S::UNPROCESSABLE_ENTITY, "too_many_reactions", never),
            Self::OverBurst { .. } => (S::UNPROCESSABLE_ENTITY, "over_burst", never),
            Self::KeyMalformed => (S::BAD_REQUEST, "idempotency_key", never),
            Self::KeysOff => (S::BAD_REQUEST, "idempotency_off", never),
            Self::KeyReused => (S::UNPROCESSABLE_ENTITY, "idempotency_reused", never),
            Self::TooFast { wait_s, .. } => (S::TOO_MANY_REQUESTS, "too_fast", Retry::After(*wait_s)),
            Self::TooFastTogether { wait_s, .. } => {
                (S::TOO_MANY_REQUESTS, "too_fast_together", Retry::After(*wait_s))
            }
            Self::KeysShare { wait_s } => (S::TOO_MANY_REQUESTS, "idempotency_share", Retry::After(*wait_s)),
            // 429 and not 503: it is about one room. A 503 would let balancers take the whole server for sick.
            Self::RoomTooDiverse(_) => (S::TOO_MANY_REQUESTS, "room_too_diverse", soon),
            Self::RoomTooMany => (S::TOO_MANY_REQUESTS, "room_too_many", soon),
            Self::Starting => (S::SERVICE_UNAVAILABLE, "starting", later),
            Self::Draining => (S::SERVICE_UNAVAILABLE, "draining", soon),
            Self::TooManyWaiting(_) => (S::SERVICE_UNAVAILABLE, "too_many_waiting", soon),
            Self::TooManyRooms(_) => (S::SERVICE_UNAVAILABLE, "too_many_rooms", soon),
            Self::KeysFull { wait_s, .. } => {
                (S::SERVICE_UNAVAILABLE, "idempotency_full", Retry::After(*wait_s))
            }
            Self::Stalled(_) => (S::SERVICE_UNAVAILABLE, "stalled", later),
            Self::NotWritten => (S::SERVICE_UNAVAILABLE, "not_written", soon),
            Self::TimedOut(_) => (S::GATEWAY_TIMEOUT, "timed_out", never),
            Self::Unknown => (S::GATEWAY_TIMEOUT, "unknown", never),
        }
    }

    /// Whether the text is always the same.
    fn is_fixed(&self) -> bool {
        matches!(
            self,
            Self::RoomEncoding
                | Self::BodyBroken
                | Self::Origin
                | Self::RoomClosed
                | Self::RouteUnknown
                | Self::Method
                | Self::ContentType
                | Self::ContentEncoding
                | Self::NoReaction
                | Self::KeyMalformed
                | Self::KeysOff
                | Self::KeyReused
                | Self::RoomTooMany
                | Self::Starting
                | Self::Draining
                | Self::NotWritten
                | Self::Unknown
        )
    }

    /// The cause, as metrics have it.
    pub(crate) fn cause(&self) -> &'static str {
        self.class().1
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.class().0
    }

    /// Says of what kind the problem is, where clients have to tell it from others of the same status.
    fn kind(&self, problem: Problem) -> Problem {
        if *self == Self::RoomClosed { problem.kind("room-closed") } else { problem }
    }

    /// What the answer says.
    pub(crate) fn problem(&self) -> Problem {
        let (status, _, retry) = self.class();
        let problem = self.kind(Problem::new(status, self.to_string()));
        match retry {
            Retry::Never => problem,
            Retry::Within((first, last)) => problem.retry_after(random_within(first, last)),
            Retry::After(seconds) => problem.retry_after(seconds),
        }
    }

    /// The answer. One without parameters costs no formatting: a flood of mistakes must not cost more than posts.
    pub(crate) fn answer(&self) -> Answer {
        let (status, cause, retry) = self.class();
        let fixed = cause_index(cause).filter(|_| self.is_fixed()).map(|index| &FIXED_BODIES[index]);
        let Some(fixed) = fixed else { return self.problem().into() };
        let body = fixed.get_or_init(|| {
            let problem = self.kind(Problem::new(status, self.to_string()));
            serde_json::to_vec(&problem).unwrap_or_default().into()
        });
        let mut answer = Answer::new(status, "application/problem+json", body.clone());
        match retry {
            Retry::Never => {}
            Retry::Within((first, last)) => {
                answer.add(header::RETRY_AFTER, random_within(first, last).into());
            }
            Retry::After(seconds) => answer.add(header::RETRY_AFTER, HeaderValue::from(seconds)),
        }
        answer
    }
}

/// Seconds to wait for something that comes after `wait` for many clients: at least one, rounded up, and a random part.
pub(crate) fn retry_after_s(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = u32::try_from(seconds.max(1)).unwrap_or(u32::MAX);
    seconds.saturating_add(random_within(0, RETRY_SPREAD_S))
}

/// A random number from `first` to `last`. The keys of `RandomState` are a thread's own: no state is shared.
fn random_within(first: u32, last: u32) -> u32 {
    let random = RandomState::new().hash_one(0) as u32;
    first + random % (last - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::tests::config, openapi::one_of_each};
    use axum::response::{IntoResponse as _, Response};
    use http_body_util::BodyExt as _;
    use std::collections::BTreeSet;

    async fn parts(response: Response) -> (StatusCode, Vec<(String, Vec<u8>)>, Bytes) {
        let (head, body) = response.into_parts();
        let headers = head.headers.iter().filter(|(name, _)| *name != header::RETRY_AFTER);
        let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        (head.status, headers, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn an_answer_that_is_kept_is_the_one_that_would_be_made() {
        for refusal in one_of_each(&config()) {
            let made = parts(refusal.problem().into_response()).await;
            // The second time it comes out of the table.
            for _ in 0..2 {
                assert_eq!(parts(refusal.answer().into_response()).await, made, "{refusal:?}");
            }
        }
    }

    #[test]
    fn a_retry_is_spread_over_some_seconds() {
        let seen = |refusal: &Refusal| -> BTreeSet<u32> {
            (0..500).filter_map(|_| refusal.problem().retry_after_s()).collect()
        };
        assert_eq!(seen(&Refusal::NotWritten), BTreeSet::from_iter(1..=3));
        assert_eq!(seen(&Refusal::Stalled(2_000)), BTreeSet::from_iter(5..=10));
        assert_eq!(seen(&Refusal::TimedOut(5_000)), BTreeSet::new());
        let waits: BTreeSet<_> = (0..500).map(|_| retry_after_s(Duration::from_millis(1_001))).collect();
        assert_eq!(waits, BTreeSet::from_iter(2..=5));
    }
}
