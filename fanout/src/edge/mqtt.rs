//! A viewer on MQTT 3.1.1 or 5: it may connect, subscribe to rooms, ping and leave. Everything else is refused as the
//! standard says. There are no sessions: a client identifier says nothing, and takes nobody's place.

use super::{
    end::End,
    speech::{Audience, How, Pulse, Snapshot},
};
use crate::{
    Config,
    metrics::refused,
    mqtt::{
        Version,
        connect::Connect,
        encode::{self, Offer},
        filter,
        frame::{Frame, Framed, first_frame, frame},
        packet::{Packet, Publish},
        reason::{Error, Reason},
        subscribe::{Requested, RetainHandling, Subscribe, Unsubscribe},
    },
};
use std::hash::{BuildHasher, RandomState};
use wire::RoomName;

/// Every room has its topic under this.
pub(crate) const TOPIC_PREFIX: &str = "reactions/";
/// The topics of all rooms.
const ALL_ROOMS: &str = "reactions/+";

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Session(Option<Connected>);

#[derive(Debug, Clone, Copy)]
struct Connected {
    version: Version,
    /// 0: for ever.
    keep_alive_s: u16,
    packet_bytes_max: u32,
    /// It wished for a session that outlives the connection.
    wished_session: bool,
}

impl Session {
    /// Takes the packets that are whole from the start of `input`, and says how many bytes they were.
    pub(super) fn hear(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        audience: &mut dyn Audience,
        config: &Config,
    ) -> Result<usize, End> {
        let longest = config.mqtt.max_packet_bytes;
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let framed = if self.0.is_some() { frame(rest, longest) } else { first_frame(rest, longest) };
            let framed = framed.map_err(|error| self.fail(out, error))?;
            let Framed::Whole(frame) = framed else { break };
            taken += frame.len;
            let before = out.len();
            let connected = match self.0 {
                Some(connected) => {
                    connected.hear(&frame, out, audience, config)?;
                    connected
                }
                None => connect(&frame, out, config)?,
            };
            // An answer can't be left out as a frame can [MQTT-3.1.2-24].
            if out.len() - before > connected.packet_bytes_max as usize {
                out.truncate(before);
                return Err(self.fail(out, Error::TooLarge));
            }
            self.0 = Some(connected);
        }
        Ok(taken)
    }

    /// What is due to somebody who was last heard `quiet_ms` ago.
    pub(super) fn check_pulse(&self, quiet_ms: u64, config: &Config) -> Pulse {
        let longest_ms = match &self.0 {
            None => config.mqtt.connect_timeout_ms,
            Some(Connected { keep_alive_s: 0, .. }) => return Pulse::Fine,
            // One and a half times [MQTT-3.1.2-22].
            Some(connected) => u64::from(connected.keep_alive_s) * 1_500,
        };
        if quiet_ms > longest_ms { Pulse::Silent } else { Pulse::Fine }
    }

    /// Appends why the connection is closed, where the client's version has words for it.
    pub(super) fn put_goodbye(&self, out: &mut Vec<u8>, end: End) {
        let Some(connected) = &self.0 else { return };
        let reason = match end {
            End::Silent => Reason::KeepAliveTimeout,
            End::Flooding => Reason::MessageRateTooHigh,
            End::Fault => Reason::UnspecifiedError,
            End::Drained => Reason::UseAnotherServer,
            // These were answered when they happened, or nobody is there to read.
            End::Gone | End::Stalled | End::Malformed | End::TooLarge | End::Spoke | End::Refused => return,
        };
        connected.say(out, reason, None);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn is_v5(&self) -> bool {
        self.0.as_ref().is_some_and(|connected| connected.version == Version::V5)
    }

    /// The longest packet that the client takes.
    pub(super) fn packet_bytes_max(&self) -> usize {
        self.0.as_ref().map_or(usize::MAX, |connected| connected.packet_bytes_max as usize)
    }

    fn fail(&self, out: &mut Vec<u8>, error: Error) -> End {
        match &self.0 {
            Some(connected) => connected.fail(out, error),
            None => end_of(error),
        }
    }
}

impl Connected {
    fn hear(
        &self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        audience: &mut dyn Audience,
        config: &Config,
    ) -> Result<(), End> {
        let packet = Packet::decode(frame, self.version).map_err(|error| self.fail(out, error))?;
        match packet {
            Packet::Pingreq => {
                out.extend_from_slice(&encode::PINGRESP);
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, out, audience, config),
            Packet::Unsubscribe(unsubscribe) => {
                self.unsubscribe(&unsubscribe, out, audience);
                Ok(())
            }
            // A session can't be wished for at the end only (3.14.2.2.2).
            Packet::Disconnect(left) if left.session_expiry_s.unwrap_or(0) > 0 && !self.wished_session => {
                Err(self.fail(out, Error::Protocol("a session expiry above 0, which was 0 before")))
            }
            Packet::Disconnect(_) => Err(End::Gone),
            Packet::Publish(Publish { qos, .. }) => {
                let reason = if qos == 0 { Reason::NotAuthorized } else { Reason::QosNotSupported };
                self.say(out, reason, Some("viewers may not publish"));
                Err(End::Spoke)
            }
            Packet::Auth => {
                self.say(out, Reason::ProtocolError, Some("no authentication method was agreed on"));
                Err(End::Malformed)
            }
        }
    }

    fn subscribe(
        &self,
        subscribe: &Subscribe<'_>,
        out: &mut Vec<u8>,
        audience: &mut dyn Audience,
        config: &Config,
    ) -> Result<(), End> {
        if subscribe.subscription_id.is_some() {
            refused("filter");
            self.say(out, Reason::SubscriptionIdsNotSupported, None);
            return Err(End::Refused);
        }
        let mut granted = |requested: Requested<'_>| self.grant(&requested, audience, config);
        let reasons: Vec<Reason> = subscribe.filters.map(&mut granted).collect();
        encode::suback(out, self.version, subscribe.packet_id, reasons);
        Ok(())
    }

    /// Grants a subscription, or says why not.
    fn grant(&self, requested: &Requested<'_>, audience: &mut dyn Audience, config: &Config) -> Reason {
        let refuse = |cause, reason| {
            refused(cause);
            reason
        };
        if filter::is_shared(requested.filter, self.version) {
            return refuse("filter", Reason::SharedSubscriptionsNotSupported);
        }
        let snapshot = match requested.retain_handling {
            RetainHandling::Always => Snapshot::Send,
            RetainHandling::IfNew => Snapshot::SendIfNew,
            RetainHandling::Never => Snapshot::DontSend,
        };
        let how = How { snapshot, retain_as_published: requested.retain_as_published };
        let known = match requested.filter.strip_prefix(TOPIC_PREFIX) {
            Some("+") => audience.watches_all(),
            Some(room) => audience.watches(room),
            None => false,
        };
        if !known && audience.subscriptions() >= config.max_rooms_per_viewer {
            return refuse("subscriptions", Reason::QuotaExceeded);
        }
        if requested.filter == ALL_ROOMS && config.mqtt.wildcards {
            audience.join_all(how);
            return Reason::Success;
        }
        if filter::has_wildcards(requested.filter) && !config.mqtt.wildcards {
            return refuse("filter", Reason::WildcardSubscriptionsNotSupported);
        }
        match requested.filter.strip_prefix(TOPIC_PREFIX).map(str::parse::<RoomName>) {
            // Well formed, but not allowed (MQTT 5, 3.9.3).
            None | Some(Err(_)) => refuse("filter", Reason::TopicFilterInvalid),
            Some(Ok(room)) => audience.join(&room, how).map_or_else(
                |full| {
                    full.refuse();
                    Reason::QuotaExceeded
                },
                |()| Reason::Success,
            ),
        }
    }

    fn unsubscribe(&self, unsubscribe: &Unsubscribe<'_>, out: &mut Vec<u8>, audience: &mut dyn Audience) {
        let mut leave = |filter: &str| match filter.strip_prefix(TOPIC_PREFIX) {
            Some("+") => audience.leave_all(),
            Some(room) => audience.leave(room),
            None => false,
        };
        let reason = |left| if left { Reason::Success } else { Reason::NoSubscriptionExisted };
        let reasons: Vec<Reason> = unsubscribe.filters.map(|filter| reason(leave(filter))).collect();
        encode::unsuback(out, self.version, unsubscribe.packet_id, reasons);
    }

    fn fail(&self, out: &mut Vec<u8>, error: Error) -> End {
        self.say(out, error.reason(), None);
        end_of(error)
    }

    fn say(&self, out: &mut Vec<u8>, reason: Reason, text: Option<&str>) {
        if self.version == Version::V5 {
            encode::disconnect_v5(out, reason, text, self.packet_bytes_max);
        }
    }
}

fn end_of(error: Error) -> End {
    match error {
        Error::TooLarge => End::TooLarge,
        Error::Version { .. } => End::Refused,
        _ => End::Malformed,
    }
}

/// Answers a CONNECT.
fn connect(frame: &Frame<'_>, out: &mut Vec<u8>, config: &Config) -> Result<Connected, End> {
    let connect = Connect::decode(frame).map_err(|error| {
        if matches!(error, Error::Version { .. }) {
            refused("version");
        }
        encode::refusal(out, frame.body, error);
        end_of(error)
    })?;
    let packet_bytes_max = connect.wishes.packet_size_max;
    let refusal = if connect.will.is_some() {
        Some(("will", Reason::NotAuthorized, "viewers may not publish, so they have no will"))
    } else if connect.wishes.authentication_method.is_some() {
        Some(("auth", Reason::BadAuthenticationMethod, "there are no authentication methods"))
    } else {
        None
    };
    if let Some((cause, reason, text)) = refusal {
        refused(cause);
        encode::connack_refused(out, connect.version, reason, Some(text), packet_bytes_max);
        return Err(End::Refused);
    }
    let longest = config.mqtt.max_keep_alive_s;
    let wished = connect.keep_alive_s;
    // Only a client of MQTT 5 can be told another one than it wishes.
    let shortened = connect.version == Version::V5 && (wished == 0 || wished > longest);
    let keep_alive_s = if shortened { longest } else { wished };
    let id = connect.client_id.is_empty().then(|| format!("viewer-{:016x}", RandomState::new().hash_one(())));
    let offer = Offer {
        assigned_client_id: id.as_deref(),
        keep_alive_s: shortened.then_some(longest),
        session_expiry_s: (connect.wishes.session_expiry_s > 0).then_some(0),
        packet_size_max: u32::try_from(config.mqtt.max_packet_bytes).ok(),
        wildcards: config.mqtt.wildcards,
    };
    encode::connack(out, connect.version, &offer);
    let wished_session = connect.wishes.session_expiry_s > 0;
    Ok(Connected { version: connect.version, keep_alive_s, packet_bytes_max, wished_session })
}
