//! Any legal packet of a client, as mqtt-proto makes it.

use super::theirs::Theirs;
use mqtt_proto::{Pid, Protocol, QoS, QosPid, TopicFilter, TopicName, v3, v5};
use proptest::{collection::vec, option, prelude::*};
use std::sync::Arc;

/// A legal packet, and the bytes that mqtt-proto makes of it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) packet: Theirs,
    pub(super) bytes: Vec<u8>,
}

/// Any legal packet of a client.
pub(super) fn sent() -> impl Strategy<Value = Sent> {
    let v311 = prop_oneof![
        4 => connect_v311().prop_map(v3::Packet::Connect),
        4 => (pid(), vec((filter(false), qos()), 1..4)).prop_map(|(pid, topics)| v3::Subscribe::new(pid, topics).into()),
        2 => (pid(), vec(filter(false), 1..4)).prop_map(|(pid, topics)| v3::Unsubscribe::new(pid, topics).into()),
        1 => Just(v3::Packet::Pingreq),
        1 => Just(v3::Packet::Disconnect),
        2 => publish_v311().prop_map(v3::Packet::Publish),
    ];
    let v5 = prop_oneof![
        6 => connect_v5().prop_map(v5::Packet::Connect),
        6 => subscribe_v5().prop_map(v5::Packet::Subscribe),
        2 => (pid(), vec(filter(true), 1..4), user_properties()).prop_map(|(pid, topics, user_properties)| {
            v5::Unsubscribe { pid, properties: v5::UnsubscribeProperties { user_properties }, topics }.into()
        }),
        1 => Just(v5::Packet::Pingreq),
        2 => disconnect_v5().prop_map(v5::Packet::Disconnect),
        3 => publish_v5().prop_map(v5::Packet::Publish),
        1 => auth().prop_map(v5::Packet::Auth),
    ];
    prop_oneof![
        v311.prop_map(|packet| Sent {
            bytes: packet.encode().unwrap().as_ref().to_vec(),
            packet: Theirs::V311(packet)
        }),
        v5.prop_map(|packet| Sent {
            bytes: packet.encode().unwrap().as_ref().to_vec(),
            packet: Theirs::V5(packet)
        }),
    ]
}

pub(super) fn text() -> impl Strategy<Value = Arc<str>> {
    "[^\0]{0,9}".prop_map(Arc::from)
}

pub(super) fn topic() -> impl Strategy<Value = TopicName> {
    "[^\0+#]{1,9}".prop_map(|topic| TopicName::try_from(topic.as_str()).unwrap())
}

fn filter(is_share_special: bool) -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![Just("+".to_owned()), "[^\0+#/]{0,3}"];
    (option::of("[^\0+#/]{1,3}"), vec(level, 1..4), any::<bool>()).prop_map(
        move |(share, levels, has_tail)| {
            let tail = if has_tail || levels == [""] { "/#" } else { "" };
            let filter = format!("{}{tail}", levels.join("/"));
            let filter = match share.filter(|_| is_share_special) {
                Some(share) => format!("$share/{share}/{filter}"),
                None => filter,
            };
            TopicFilter::try_from(filter.as_str()).unwrap()
        },
    )
}

fn pid() -> impl Strategy<Value = Pid> {
    (1..=u16::MAX).prop_map(|pid| Pid::try_from(pid).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::Level0), Just(QoS::Level1), Just(QoS::Level2)]
}

fn qos_pid() -> impl Strategy<Value = QosPid> {
    prop_oneof![Just(QosPid::Level0), pid().prop_map(QosPid::Level1), pid().prop_map(QosPid::Level2)]
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..9)
}

fn user_properties() -> impl Strategy<Value = Vec<v5::UserProperty>> {
    vec((text(), text()).prop_map(|(name, value)| v5::UserProperty { name, value }), 0..3)
}

fn connect_v311() -> impl Strategy<Value = v3::Connect> {
    let will = (qos(), any::<bool>(), topic(), binary()).prop_map(|(qos, retain, topic_name, message)| {
        v3::LastWill { qos, retain, topic_name, message: message.into() }
    });
    let user = option::of((text(), option::of(binary())));
    (any::<bool>(), any::<u16>(), text(), option::of(will), user).prop_map(
        |(clean_session, keep_alive, client_id, last_will, user)| v3::Connect {
            protocol: Protocol::V311,
            clean_session: clean_session || client_id.is_empty(),
            keep_alive,
            client_id,
            last_will,
            username: user.as_ref().map(|(name, _)| Arc::clone(name)),
            password: user.and_then(|(_, password)| password).map(Into::into),
        },
    )
}

fn connect_v5() -> impl Strategy<Value = v5::Connect> {
    (
        (any::<bool>(), any::<u16>(), text()),
        connect_properties(),
        option::of(will_v5()),
        option::of(text()),
        option::of(binary()),
    )
        .prop_map(|((clean_start, keep_alive, client_id), properties, last_will, username, password)| {
            v5::Connect {
                protocol: Protocol::V500,
                clean_start,
                keep_alive,
                properties,
                client_id,
                last_will,
                username,
                password: password.map(Into::into),
            }
        })
}

fn connect_properties() -> impl Strategy<Value = v5::ConnectProperties> {
    (
        (
            option::of(any::<u32>()),
            option::of(1..=u16::MAX),
            option::of(1..=u32::MAX),
            option::of(any::<u16>()),
        ),
        (option::of(any::<bool>()), option::of(any::<bool>())),
        user_properties(),
        option::of((text(), option::of(binary()))),
    )
        .prop_map(|(numbers, (response, problem), user_properties, auth)| v5::ConnectProperties {
            session_expiry_interval: numbers.0,
            receive_max: numbers.1,
            max_packet_size: numbers.2,
            topic_alias_max: numbers.3,
            request_response_info: response,
            request_problem_info: problem,
            user_properties,
            auth_method: auth.as_ref().map(|(method, _)| Arc::clone(method)),
            auth_data: auth.and_then(|(_, data)| data).map(Into::into),
        })
}

fn will_v5() -> impl Strategy<Value = v5::LastWill> {
    let properties = (
        option::of(any::<u32>()),
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        (option::of(text()), option::of(topic()), option::of(binary())),
        user_properties(),
    )
        .prop_map(
            |(delay, is_text, expiry, (content_type, response_topic, correlation_data), user_properties)| {
                v5::WillProperties {
                    delay_interval: delay,
                    payload_is_utf8: is_text,
                    message_expiry_interval: expiry,
                    content_type,
                    response_topic,
                    correlation_data: correlation_data.map(Into::into),
                    user_properties,
                }
            },
        );
    (qos(), any::<bool>(), topic(), text(), properties).prop_map(
        |(qos, retain, topic_name, payload, properties)| v5::LastWill {
            qos,
            retain,
            topic_name,
            payload: payload.as_bytes().to_vec().into(),
            properties,
        },
    )
}

fn subscribe_v5() -> impl Strategy<Value = v5::Subscribe> {
    let handling = prop_oneof![
        Just(v5::RetainHandling::SendAtSubscribe),
        Just(v5::RetainHandling::SendAtSubscribeIfNotExist),
        Just(v5::RetainHandling::DoNotSend),
    ];
    let topic = (filter(true), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(filter, max_qos, no_local, retain_as_published, retain_handling)| {
            let no_local = no_local && !filter.is_shared();
            (filter, v5::SubscriptionOptions { max_qos, no_local, retain_as_published, retain_handling })
        },
    );
    let id = option::of((1..268_435_456_u32).prop_map(|id| v5::VarByteInt::try_from(id).unwrap()));
    (pid(), id, user_properties(), vec(topic, 1..4)).prop_map(
        |(pid, subscription_id, user_properties, topics)| v5::Subscribe {
            pid,
            properties: v5::SubscribeProperties { subscription_id, user_properties },
            topics,
        },
    )
}

fn publish_v311() -> impl Strategy<Value = v3::Publish> {
    (qos_pid(), any::<bool>(), any::<bool>(), topic(), binary()).prop_map(
        |(qos_pid, dup, retain, topic_name, payload)| v3::Publish {
            dup: dup && qos_pid != QosPid::Level0,
            retain,
            qos_pid,
            topic_name,
            payload: payload.into(),
        },
    )
}

fn publish_v5() -> impl Strategy<Value = v5::Publish> {
    let properties = (
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        (option::of(topic()), option::of(binary()), option::of(text())),
        user_properties(),
    )
        .prop_map(
            |(
                is_text,
                expiry,
                topic_alias,
                (response_topic, correlation_data, content_type),
                user_properties,
            )| {
                v5::PublishProperties {
                    payload_is_utf8: is_text,
                    message_expiry_interval: expiry,
                    topic_alias,
                    response_topic,
                    correlation_data: correlation_data.map(Into::into),
                    user_properties,
                    subscription_id: None,
                    content_type,
                }
            },
        );
    (publish_v311(), properties, text()).prop_map(|(like, properties, payload)| v5::Publish {
        dup: like.dup,
        retain: like.retain,
        qos_pid: like.qos_pid,
        topic_name: like.topic_name,
        payload: payload.as_bytes().to_vec().into(),
        properties,
    })
}

fn disconnect_v5() -> impl Strategy<Value = v5::Disconnect> {
    let reason = prop_oneof![
        Just(v5::DisconnectReasonCode::NormalDisconnect),
        Just(v5::DisconnectReasonCode::DisconnectWithWillMessage),
        Just(v5::DisconnectReasonCode::UnspecifiedError),
        Just(v5::DisconnectReasonCode::PayloadFormatInvalid),
    ];
    (reason, option::of(any::<u32>()), option::of(text()), user_properties()).prop_map(
        |(reason_code, session_expiry_interval, reason_string, user_properties)| v5::Disconnect {
            reason_code,
            properties: v5::DisconnectProperties {
                session_expiry_interval,
                reason_string,
                user_properties,
                server_reference: None,
            },
        },
    )
}

fn auth() -> impl Strategy<Value = v5::Auth> {
    let reason = prop_oneof![
        Just(v5::AuthReasonCode::ContinueAuthentication),
        Just(v5::AuthReasonCode::ReAuthentication)
    ];
    (reason, text(), option::of(binary()), option::of(text()), user_properties()).prop_map(
        |(reason_code, method, data, reason_string, user_properties)| v5::Auth {
            reason_code,
            properties: v5::AuthProperties {
                auth_method: Some(method),
                auth_data: data.map(Into::into),
                reason_string,
                user_properties,
            },
        },
    )
}
