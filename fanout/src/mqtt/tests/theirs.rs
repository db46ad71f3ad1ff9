//! The packets of a client as mqtt-proto reads them.

use super::{
    super::{
        Version,
        connect::{Connect, Will, Wishes},
        packet::{Disconnect, Publish},
        subscribe::{Requested, RetainHandling},
    },
    Seen,
};
use mqtt_proto::{Pid, PollHeader, QoS, QosPid, v3, v5};

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Theirs {
    V311(v3::Packet),
    V5(v5::Packet),
}

impl Theirs {
    /// Reads the body of a packet, all of it.
    pub(super) fn decode(version: Version, first: u8, body: &[u8]) -> Option<Self> {
        let len = u32::try_from(body.len()).ok()?;
        match version {
            Version::V311 => decode(v3::Header::new_with(first, len, len + 2).ok()?, body).map(Self::V311),
            Version::V5 => decode(v5::Header::new_with(first, len, len + 2).ok()?, body).map(Self::V5),
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::V311(_) => Version::V311,
            Self::V5(_) => Version::V5,
        }
    }

    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::V311(v3::Packet::Connect(_)) | Self::V5(v5::Packet::Connect(_)))
    }

    /// What we should see in it.
    pub(super) fn seen(&self) -> Seen<'_> {
        match self {
            Self::V311(packet) => seen_v311(packet),
            Self::V5(packet) => seen_v5(packet),
        }
    }
}

fn decode<H: PollHeader>(header: H, body: &[u8]) -> Option<H::Packet> {
    if let Some(packet) = header.build_empty_packet() {
        return body.is_empty().then_some(packet);
    }
    let mut read = 0;
    let packet = header.decode_buffer(body, &mut read).ok()?;
    (read == body.len()).then_some(packet)
}

fn seen_v311(packet: &v3::Packet) -> Seen<'_> {
    match packet {
        v3::Packet::Connect(it) => Seen::Connect(Connect {
            version: Version::V311,
            client_id: &it.client_id,
            is_clean: it.clean_session,
            keep_alive_s: it.keep_alive,
            will: it.last_will.as_ref().map(|will| Will { qos: will.qos as u8, is_retained: will.retain }),
            user_name: it.username.as_deref(),
            password: it.password.as_deref(),
            wishes: Wishes::default(),
        }),
        v3::Packet::Subscribe(it) => Seen::Subscribe {
            packet_id: it.pid.value(),
            subscription_id: None,
            filters: it.topics.iter().map(|(filter, qos)| requested(filter, *qos)).collect(),
        },
        v3::Packet::Unsubscribe(it) => Seen::Unsubscribe {
            packet_id: it.pid.value(),
            filters: it.topics.iter().map(|it| &**it).collect(),
        },
        v3::Packet::Pingreq => Seen::Pingreq,
        v3::Packet::Disconnect => Seen::Disconnect(Disconnect { reason: 0, session_expiry_s: None }),
        v3::Packet::Publish(it) => published(it.qos_pid),
        other => panic!("not from a client: {other:?}"),
    }
}

fn seen_v5(packet: &v5::Packet) -> Seen<'_> {
    match packet {
        v5::Packet::Connect(it) => Seen::Connect(Connect {
            version: Version::V5,
            client_id: &it.client_id,
            is_clean: it.clean_start,
            keep_alive_s: it.keep_alive,
            will: it.last_will.as_ref().map(|will| Will { qos: will.qos as u8, is_retained: will.retain }),
            user_name: it.username.as_deref(),
            password: it.password.as_deref(),
            wishes: wishes(&it.properties),
        }),
        v5::Packet::Subscribe(it) => Seen::Subscribe {
            packet_id: it.pid.value(),
            subscription_id: it.properties.subscription_id.map(|id| id.value()),
            filters: it
                .topics
                .iter()
                .map(|(filter, options)| Requested {
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    retain_handling: match options.retain_handling {
                        v5::RetainHandling::SendAtSubscribe => RetainHandling::Always,
                        v5::RetainHandling::SendAtSubscribeIfNotExist => RetainHandling::IfNew,
                        v5::RetainHandling::DoNotSend => RetainHandling::Never,
                    },
                    ..requested(filter, options.max_qos)
                })
                .collect(),
        },
        v5::Packet::Unsubscribe(it) => Seen::Unsubscribe {
            packet_id: it.pid.value(),
            filters: it.topics.iter().map(|it| &**it).collect(),
        },
        v5::Packet::Pingreq => Seen::Pingreq,
        v5::Packet::Disconnect(it) => Seen::Disconnect(Disconnect {
            reason: it.reason_code as u8,
            session_expiry_s: it.properties.session_expiry_interval,
        }),
        v5::Packet::Publish(it) => published(it.qos_pid),
        v5::Packet::Auth(_) => Seen::Auth,
        other => panic!("not from a client: {other:?}"),
    }
}

fn wishes(properties: &v5::ConnectProperties) -> Wishes<'_> {
    let default = Wishes::default();
    Wishes {
        session_expiry_s: properties.session_expiry_interval.unwrap_or(default.session_expiry_s),
        receive_maximum: properties.receive_max.unwrap_or(default.receive_maximum),
        packet_size_max: properties.max_packet_size.unwrap_or(default.packet_size_max),
        topic_alias_maximum: properties.topic_alias_max.unwrap_or(default.topic_alias_maximum),
        response_information: properties.request_response_info.unwrap_or(default.response_information),
        problem_information: properties.request_problem_info.unwrap_or(default.problem_information),
        authentication_method: properties.auth_method.as_deref(),
        authentication_data: properties.auth_data.as_deref(),
    }
}

fn requested(filter: &str, qos: QoS) -> Requested<'_> {
    Requested {
        filter,
        qos: qos as u8,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    }
}

fn published(qos_pid: QosPid) -> Seen<'static> {
    Seen::Publish(Publish { qos: qos_pid.qos() as u8, packet_id: qos_pid.pid().map(Pid::value) })
}
