//! What a client may do: how fast it may send, and which of its requests are repeats. Puts together who it is
//! ([`crate::client`]), its buckets ([`crate::rate`]) and its keys ([`crate::idempotency`]) for the way of a request.
//!
//! Each request is charged before anything else of it is looked at. Where no limit is set and no key is sent, nothing is looked up,
//! not even who the client is.

use crate::{
    client::{self, Trust},
    config::Config,
    idempotency::{self, Bounds, Counted, IDEMPOTENCY_KEY, Idempotency, KEYS_MIN, Keyed},
    ids::{Id, Secret},
    metrics::{REPEATED, UNTRACKED},
    rate::{Kind, Left, Quota, Taken, Tracker, seconds},
    refusal::{Refusal, retry_after_s},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use metrics::{Counter, counter};
use service::http::Answer;
use std::{
    fmt::Write as _,
    mem,
    net::IpAddr,
    time::{Duration, Instant},
};

/// What is left, as draft-ietf-httpapi-ratelimit-headers-10 has it.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What is allowed.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Reactions => "reactions",
        }
    }
}

/// The limits that are configured.
#[derive(Debug)]
pub(crate) struct Limits {
    trust: Trust,
    requests: Option<Quota>,
    reactions: Option<Quota>,
    max_clients: usize,
    policy: Option<HeaderValue>,
    /// `None`: no keys are taken.
    keys: Option<Bounds>,
}

impl Limits {
    pub(crate) fn of(config: &Config) -> Self {
        let requests = Quota::new(config.rate_per_s, config.rate_burst);
        let reactions = Quota::new(config.reactions_per_s, config.reactions_burst);
        let bounds = Bounds {
            ttl: Duration::from_millis(config.idempotency_ttl_ms),
            max: config.max_idempotency_keys,
        };
        Self {
            trust: Trust::of(config),
            requests,
            reactions,
            max_clients: config.max_tracked_clients,
            policy: policy(requests, reactions),
            keys: (bounds.max > 0).then_some(bounds),
        }
    }

    /// Whether a header can make a difference to limits or keys.
    pub(crate) fn look_at(&self, header: &str) -> bool {
        header.eq_ignore_ascii_case(IDEMPOTENCY_KEY.as_str()) || self.trust.looks_at(header)
    }
}

/// `"requests";q=20;w=2, "reactions";q=2000;qu="reactions";w=4`: a full bucket, and the seconds to fill it. The unit of
/// the second is none of the draft's; without one it would mean requests.
fn policy(requests: Option<Quota>, reactions: Option<Quota>) -> Option<HeaderValue> {
    let requests = requests.map(|q| format!("\"requests\";q={};w={}", q.burst(), q.window_s()));
    let reactions =
        reactions.map(|q| format!("\"reactions\";q={};qu=\"reactions\";w={}", q.burst(), q.window_s()));
    let all: Vec<_> = requests.into_iter().chain(reactions).collect();
    (!all.is_empty()).then(|| HeaderValue::try_from(all.join(", ")).ok()).flatten()
}

/// Adds what is not right about the keys of this module; ranges are checked with all others.
pub(crate) fn validate(config: &Config, refuse: &mut dyn FnMut(&str, String)) {
    for text in &config.trusted_proxies {
        if let Err(why) = client::network(text) {
            refuse("trusted_proxies", why);
        }
    }
    let name = &config.subject_header;
    if !name.is_empty() && HeaderName::try_from(name.as_str()).is_err() {
        refuse("subject_header", format!("must be the name of a header or empty, is {name:?}"));
    }
    if !name.is_empty() && config.trusted_proxies.is_empty() {
        refuse("subject_header", "needs trusted_proxies: nobody else is believed".into());
    }
    let (burst, most) = (config.reactions_burst, config.max_count);
    if config.reactions_per_s > 0 && burst < most {
        refuse("reactions_burst", format!("must be at least max_count ({most}), is {burst}"));
    }
    let keys = config.max_idempotency_keys;
    if (1..KEYS_MIN).contains(&keys) {
        refuse("max_idempotency_keys", format!("must be 0 or at least {KEYS_MIN}, is {keys}"));
    }
    let (ttl, timeout) = (config.idempotency_ttl_ms, config.ack_timeout_ms);
    if ttl <= timeout {
        refuse("idempotency_ttl_ms", format!("must be above ack_timeout_ms ({timeout}), is {ttl}"));
    }
}

/// What is left to a client after a request, for the headers of the answer.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    policy: Option<HeaderValue>,
    requests: Option<Left>,
    reactions: Option<Left>,
}

impl Standing {
    /// Adds the headers, if there is a limit.
    pub(crate) fn tell(self, answer: &mut Answer) {
        let Some(policy) = self.policy else { return };
        let left = [(Kind::Requests, self.requests), (Kind::Reactions, self.reactions)];
        let mut text = String::with_capacity(64);
        for (kind, left) in left.into_iter().filter_map(|(kind, left)| Some((kind, left?))) {
            let comma = if text.is_empty() { "" } else { ", " };
            let (name, tokens, next_s) = (kind.name(), left.tokens, seconds(left.next));
            let _ = write!(text, "{comma}\"{name}\";r={tokens};t={next_s}");
        }
        // A list that is empty is not sent (RFC 9651, section 3.1).
        if let Some(text) = HeaderValue::try_from(text).ok().filter(|text| !text.is_empty()) {
            answer.add(RATE_LIMIT, text);
        }
        answer.add(RATE_LIMIT_POLICY, policy);
    }
}

/// Who sent a request, as far as somebody has to know.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    client: Option<Id>,
    /// Of client, room and key.
    key: Option<Id>,
    /// It was counted as a request of a client that shares a limit.
    counted_as_untracked: bool,
}

/// What is remembered of clients. Lives as long as the tier, through all changes of the configuration.
pub(crate) struct Ledger {
    secret: Secret,
    tracker: Tracker,
    idempotency: Idempotency,
    untracked: Counter,
    repeated: Counter,
}

impl Ledger {
    /// Nothing is known of anybody. `start` is before all that follows.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            secret: Secret::default(),
            tracker: Tracker::new(start),
            idempotency: Idempotency::default(),
            untracked: counter!(UNTRACKED),
            repeated: counter!(REPEATED),
        }
    }

    /// Charges a request to its client, before anything else of it is looked at: mistakes cost as much as posts.
    pub(crate) fn charge(
        &self,
        limits: &Limits,
        (headers, peer): (&HeaderMap, IpAddr),
        now: impl FnOnce() -> Instant,
        standing: &mut Standing,
    ) -> Result<Caller, Refusal> {
        let mut caller = Caller::default();
        if limits.policy.is_some() {
            standing.policy.clone_from(&limits.policy);
            caller.client = Some(self.secret.id(limits.trust.client(peer, headers)));
            self.take(limits, &mut caller, Kind::Requests, 1, now(), standing)?;
        }
        Ok(caller)
    }

    /// Reads the idempotency key of a request.
    pub(crate) fn read_key(
        &self,
        limits: &Limits,
        room: &str,
        (headers, peer): (&HeaderMap, IpAddr),
        caller: &mut Caller,
    ) -> Result<(), Refusal> {
        let Some(key) = idempotency::key(headers).map_err(|_| Refusal::KeyMalformed)? else { return Ok(()) };
        if limits.keys.is_none() {
            return Err(Refusal::KeysOff);
        }
        let identify = || self.secret.id(limits.trust.client(peer, headers));
        let client = *caller.client.get_or_insert_with(identify);
        caller.key = Some(self.secret.id((client.parts(), room, key)));
        Ok(())
    }

    /// Lets `add` count what the request asks for, unless it is a repeat of one that was, or too much.
    pub(crate) fn count(
        &self,
        limits: &Limits,
        caller: &mut Caller,
        (body, count): (&[u8], u64),
        now: Instant,
        standing: &mut Standing,
        add: impl FnOnce() -> Result<Counted, Refusal>,
    ) -> Result<Counted, Refusal> {
        let keyed = caller.client.zip(caller.key);
        let taken_and_added = || {
            self.take(limits, caller, Kind::Reactions, count, now, standing)?;
            add()
        };
        let Some((client, id)) = keyed else {
            return taken_and_added();
        };
        // They may have been turned off while the body came.
        let bounds = limits.keys.ok_or(Refusal::KeysOff)?;
        let request = Keyed { client, id, fingerprint: self.secret.fingerprint(body) };
        let (counted, repeat) = self.idempotency.once(request, bounds, now, taken_and_added)?;
        if repeat {
            self.repeated.increment(1);
        }
        Ok(counted)
    }

    /// Requests whose keys are remembered.
    pub(crate) fn keys(&self) -> usize {
        self.idempotency.kept()
    }

    fn take(
        &self,
        limits: &Limits,
        caller: &mut Caller,
        kind: Kind,
        cost: u64,
        now: Instant,
        standing: &mut Standing,
    ) -> Result<(), Refusal> {
        let (quota, left) = match kind {
            Kind::Requests => (&limits.requests, &mut standing.requests),
            Kind::Reactions => (&limits.reactions, &mut standing.reactions),
        };
        let (Some(quota), Some(client)) = (quota, caller.client) else { return Ok(()) };
        let (taken, shared) = self.tracker.take(client, kind, quota, cost, now, limits.max_clients);
        if shared && !mem::replace(&mut caller.counted_as_untracked, true) {
            self.untracked.increment(1);
        }
        let (what, per_s) = (kind.name(), quota.per_s());
        match taken {
            Taken::Granted(now_left) => *left = Some(now_left),
            Taken::Wait(wait, now_left) => {
                *left = Some(now_left);
                return Err(if shared {
                    Refusal::TooFastTogether { what, per_s, wait_s: retry_after_s(wait) }
                } else {
                    let wait_s = u32::try_from(seconds(wait).max(1)).unwrap_or(u32::MAX);
                    Refusal::TooFast { what, per_s, wait_s }
                });
            }
            Taken::Never => return Err(Refusal::OverBurst { count: cost, burst: quota.burst() }),
        }
        Ok(())
    }
}
