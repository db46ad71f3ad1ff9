//! The few packets of MQTT 3.1.1 that a QoS 0 viewer, the one who publishes to it, and the floor exchange.

/// A packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Connect,
    /// With its return code.
    Connack(u8),
    Publish {
        topic: &'a [u8],
        payload: &'a [u8],
    },
    /// With its packet id.
    Subscribe([u8; 2]),
    /// With its first return code.
    Suback(u8),
    Pingreq,
    Pingresp,
    Other,
}

/// Not MQTT 3.1.1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Splits the first packet off `bytes`, with its length; `None` while some of it is missing.
pub(crate) fn take(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Broken> {
    let mut length = 0;
    for place in 0..4 {
        let Some(byte) = bytes.get(1 + place) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let start = 2 + place;
            let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
            return Ok(Some((decode(bytes[0], body)?, start + length)));
        }
    }
    Err(Broken)
}

fn decode(first: u8, body: &[u8]) -> Result<Packet<'_>, Broken> {
    Ok(match (first >> 4, body) {
        (1, _) => Packet::Connect,
        (2, [_, code]) => Packet::Connack(*code),
        (3, [high, low, rest @ ..]) => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (topic, rest) = rest.split_at_checked(length).ok_or(Broken)?;
            // A packet id follows above QoS 0.
            let id = if first & 0b0110 == 0 { 0 } else { 2 };
            Packet::Publish { topic, payload: rest.get(id..).ok_or(Broken)? }
        }
        (8, [high, low, ..]) => Packet::Subscribe([*high, *low]),
        (9, [_, _, code, ..]) => Packet::Suback(*code),
        (12, []) => Packet::Pingreq,
        (13, []) => Packet::Pingresp,
        (2 | 3 | 8 | 9 | 12 | 13 | 0 | 15, _) => return Err(Broken),
        _ => Packet::Other,
    })
}

/// The answer that lets a viewer in.
pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// "Are you there?"
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
/// "I am."
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];

/// QoS 0 granted to the subscription with this packet id.
pub(crate) fn suback(id: [u8; 2]) -> [u8; 5] {
    [0x90, 3, id[0], id[1], 0]
}

/// A CONNECT with a clean session.
pub(crate) fn connect(client_id: &str, keep_alive_s: u16) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2];
    body.extend(keep_alive_s.to_be_bytes());
    string(&mut body, client_id);
    packet(0x10, &body)
}

/// A SUBSCRIBE to one topic with QoS 0.
pub(crate) fn subscribe(topic: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    string(&mut body, topic);
    body.push(0);
    packet(0x82, &body)
}

/// A PUBLISH with QoS 0.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, topic);
    body.extend(payload);
    packet(0x30, &body)
}

/// Client ids and topics of this program are far shorter than 64 KiB.
fn string(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        packet.push((rest & 0x7f) as u8 | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_back_wherever_it_is_split() {
        for size in [0, 1, 100, 120, 127, 128, 300, 20_000] {
            let payload = vec![b'x'; size];
            let whole = publish("reactions/r", &payload);
            for cut in (0..whole.len()).step_by(1 + whole.len() / 200) {
                assert_eq!(take(&whole[..cut]), Ok(None), "{cut} of {}", whole.len());
            }
            let two = [&whole[..], &PINGRESP].concat();
            let expected = Packet::Publish { topic: b"reactions/r", payload: &payload };
            assert_eq!(take(&two), Ok(Some((expected, whole.len()))));
            assert_eq!(take(&two[whole.len()..]), Ok(Some((Packet::Pingresp, 2))));
        }
    }

    #[test]
    fn a_packet_id_is_no_part_of_the_payload() {
        let packet = [0x32, 6, 0, 1, b't', 0, 9, b'p'];
        let expected = Packet::Publish { topic: b"t", payload: b"p" };
        assert_eq!(take(&packet), Ok(Some((expected, 8))));
    }

    #[test]
    fn the_conversation_of_a_viewer_is_understood_from_both_sides() {
        for (bytes, expected) in [
            (connect("v-1", 600), Packet::Connect),
            (CONNACK.to_vec(), Packet::Connack(0)),
            (vec![0x20, 2, 0, 5], Packet::Connack(5)),
            (subscribe("reactions/r"), Packet::Subscribe([0, 1])),
            (suback([0, 1]).to_vec(), Packet::Suback(0)),
            (vec![0x90, 3, 0, 1, 0x80], Packet::Suback(0x80)),
            (PINGREQ.to_vec(), Packet::Pingreq),
            (vec![0x40, 2, 0, 1], Packet::Other),
        ] {
            assert_eq!(take(&bytes), Ok(Some((expected, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_mqtt_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..4],
            &[0x30, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 2, 0, 9],
            &[0x20, 0],
            &[0xd0, 1, 0],
        ] {
            let answer = take(bytes);
            assert!(matches!(answer, Err(Broken) | Ok(None)), "{answer:?}");
        }
        assert_eq!(take(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Broken));
        assert_eq!(take(&[0x30, 2, 0, 9]), Err(Broken));
    }
}
