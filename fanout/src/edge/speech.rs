//! What a viewer speaks: what it may say, and how it is answered. Pure: bytes in, answers out, wishes to an [`Audience`].

use super::{end::End, mqtt::Session};
use crate::{
    Config,
    frames::{COMMENT, Form, FrameId, Publish},
    metrics::Protocol,
    registry::{Full, Watch},
    websocket::{self, Opcode, Piece, Reader},
};
use wire::RoomName;

/// What a viewer's wishes are put to.
pub(super) trait Audience {
    /// Watches a room. A second time changes how.
    fn join(&mut self, room: &RoomName, how: How) -> Result<(), Full>;
    /// Watches a room no more. Says whether it did.
    fn leave(&mut self, room: &str) -> bool;
    /// Watches every room there is, or will be.
    fn join_all(&mut self, how: How);
    /// No longer watches all rooms. Says whether it did.
    fn leave_all(&mut self) -> bool;
    /// Whether it watches a room, by its name.
    fn watches(&self, room: &str) -> bool;
    /// Whether it watches all rooms.
    fn watches_all(&self) -> bool;
    /// How many rooms it watches; all rooms are one.
    fn subscriptions(&self) -> usize;
}

/// How a room is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    pub(super) snapshot: Snapshot,
    /// Frames keep their mark as retained (MQTT 5, 3.8.3.1).
    pub(super) retain_as_published: bool,
}

/// Whether what the room shows is sent at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshot {
    Send,
    SendIfNew,
    DontSend,
    /// Unless it is this frame, which the viewer has: `since` and `seq`.
    SendUnless(FrameId),
}

/// How a viewer that comes over HTTP begins.
#[derive(Debug)]
pub(crate) enum Greeting {
    /// JSON, about these rooms, which are kept until it has joined; with what it is greeted by.
    Json { rooms: Vec<Watch>, hello: Vec<u8> },
    /// Server-sent events, about a room, which is kept until it has joined; with what the stream begins with. `seen`: the frame
    /// that the viewer received last, before it came back.
    Events { room: Watch, start: Vec<u8>, seen: Option<FrameId> },
    /// MQTT.
    Mqtt,
}

/// What a viewer speaks.
#[derive(Debug)]
pub(super) enum Speech {
    /// JSON in a WebSocket.
    Json(Reader, Text),
    /// Server-sent events: it says nothing.
    Events,
    /// MQTT.
    Mqtt(Session),
    /// MQTT in a WebSocket, with the start of a packet whose rest has not come.
    MqttWebSocket(Box<(Reader, Session, Vec<u8>)>),
}

/// Longest text of a viewer of JSON that is passed over. Heartbeats of client libraries are shorter.
const TEXT_BYTES_MAX: usize = 125;
/// A heartbeat that wants an answer, and the answer.
const PING: &[u8] = b"ping";
const PONG: &[u8] = b"pong";

/// The text under way of a viewer of JSON.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: u8,
    /// It does not begin as [`PING`] does.
    is_other: bool,
}

/// What was taken of what a viewer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) bytes: usize,
    /// It shows that the viewer is there: in MQTT, whole packets were among it [MQTT-3.1.2-22].
    pub(super) alive: bool,
}

impl Speech {
    pub(super) fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Mqtt => Self::Mqtt(Session::default()),
            Protocol::MqttWebSocket => Self::MqttWebSocket(Box::default()),
            Protocol::WebSocket => Self::Json(Reader::default(), Text::default()),
            Protocol::Sse => Self::Events,
        }
    }

    /// Stands in while somebody's speech is elsewhere.
    pub(super) fn nobody() -> Self {
        Self::Json(Reader::default(), Text::default())
    }

    /// Whether it keeps the start of something whose rest has not come.
    pub(super) fn keeps_unfinished(&self) -> bool {
        match self {
            Self::MqttWebSocket(parts) => !parts.2.is_empty(),
            Self::Json(..) | Self::Events | Self::Mqtt(_) => false,
        }
    }

    /// Whether it shows that it is there by sending something, before that is read. In MQTT it takes a whole packet, which
    /// what has to wait may be. Before its CONNECT it has a deadline, whatever comes.
    pub(super) fn counts_as_heard(&self, has_to_wait: bool) -> bool {
        match self {
            Self::Json(..) | Self::Events => true,
            Self::Mqtt(session) => has_to_wait && session.is_connected(),
            Self::MqttWebSocket(parts) => has_to_wait && parts.1.is_connected(),
        }
    }

    /// Takes what is whole from the start of `input`. Answers are appended to `out`, at the end also the goodbye.
    pub(super) fn hear(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        audience: &mut dyn Audience,
        config: &Config,
    ) -> Result<Heard, End> {
        #[cfg(test)]
        super::shard_tests::panic_if_planted(input);
        match self {
            Self::Mqtt(session) => {
                let bytes = session.hear(input, out, audience, config)?;
                Ok(Heard { bytes, alive: bytes > 0 })
            }
            // Its request was all that it has to say. Some end that with a line too many.
            Self::Events if input.iter().all(|byte| b"\r\n".contains(byte)) => {
                Ok(Heard { bytes: input.len(), alive: true })
            }
            Self::Events => Err(End::Spoke),
            Self::Json(reader, text) => {
                let bytes = hear_websocket(reader, input, out, |data, out| {
                    text.hear(&data, out).inspect_err(|end| put_websocket_goodbye(out, *end))
                })?;
                Ok(Heard { bytes, alive: true })
            }
            Self::MqttWebSocket(parts) => {
                let (reader, session, rest) = &mut **parts;
                let mut alive = false;
                let bytes = hear_websocket(reader, input, out, |data, out| {
                    let Data::Binary(payload) = data else {
                        websocket::put_close(out, 1003, "MQTT comes in binary messages");
                        return Err(End::Malformed);
                    };
                    rest.extend_from_slice(payload);
                    let mut answers = Vec::new();
                    let heard = session.hear(rest, &mut answers, audience, config);
                    if !answers.is_empty() {
                        websocket::put_message(out, Opcode::Binary, &answers);
                    }
                    let taken = heard.inspect_err(|end| put_websocket_goodbye(out, *end))?;
                    alive |= taken > 0;
                    rest.drain(..taken);
                    if rest.is_empty() {
                        // Its memory is given back.
                        *rest = Vec::new();
                    }
                    Ok(())
                })?;
                Ok(Heard { bytes, alive })
            }
        }
    }

    /// What is due to a viewer that was last heard `quiet_ms` ago or, if it was pinged since then, was pinged so long ago.
    pub(super) fn check_pulse(&self, quiet_ms: u64, is_pinged: bool, config: &Config) -> Pulse {
        match self {
            Self::Mqtt(session) => session.check_pulse(quiet_ms, config),
            Self::MqttWebSocket(parts) => parts.1.check_pulse(quiet_ms, config),
            Self::Json(..) if is_pinged && quiet_ms >= config.pong_timeout_ms => Pulse::Silent,
            Self::Json(..) if !is_pinged && quiet_ms >= config.ping_interval_ms => Pulse::Ask,
            // A comment keeps proxies from closing the connection. That nobody takes it shows who is gone.
            Self::Events if quiet_ms >= config.ping_interval_ms => Pulse::Tell,
            Self::Json(..) | Self::Events => Pulse::Fine,
        }
    }

    /// Appends a ping, or what comes nearest to one.
    pub(super) fn put_ping(&self, out: &mut Vec<u8>) {
        match self {
            Self::Events => out.extend_from_slice(COMMENT),
            _ => websocket::put_message(out, Opcode::Ping, &[]),
        }
    }

    /// Appends what a viewer that has to go is told.
    pub(super) fn put_goodbye(&self, out: &mut Vec<u8>, end: End) {
        match self {
            Self::Json(..) => put_websocket_goodbye(out, end),
            // An EventSource comes back when its stream ends, after the time that it was told at the start.
            Self::Events => {}
            Self::Mqtt(session) => session.put_goodbye(out, end),
            Self::MqttWebSocket(parts) => {
                let mut goodbye = Vec::new();
                parts.1.put_goodbye(&mut goodbye, end);
                if !goodbye.is_empty() {
                    websocket::put_message(out, Opcode::Binary, &goodbye);
                }
                put_websocket_goodbye(out, end);
            }
        }
    }

    /// The form in which it receives frames.
    pub(super) fn form(&self, retain: bool) -> Form {
        match self {
            Self::Json(..) => Form::Text,
            Self::Events => Form::Event,
            Self::Mqtt(session) => Form::Publish(Publish { v5: session.is_v5(), retain, websocket: false }),
            Self::MqttWebSocket(parts) => {
                Form::Publish(Publish { v5: parts.1.is_v5(), retain, websocket: true })
            }
        }
    }

    /// The longest frame that it takes.
    pub(super) fn frame_bytes_max(&self) -> usize {
        match self {
            Self::Json(..) | Self::Events => usize::MAX,
            Self::Mqtt(session) => session.packet_bytes_max(),
            Self::MqttWebSocket(parts) => websocket::message_bytes(parts.1.packet_bytes_max()),
        }
    }
}

/// What to do about somebody who is quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    Fine,
    /// Ask whether it is there.
    Ask,
    /// Say something that isn't answered.
    Tell,
    Silent,
}

/// A part of a message in a WebSocket.
enum Data<'a> {
    Binary(&'a [u8]),
    /// `left` bytes of its frame are still to come.
    Text {
        payload: &'a [u8],
        left: u64,
        ends: bool,
    },
}

impl Text {
    /// Passes short texts over, and answers those that are a ping.
    fn hear(&mut self, data: &Data<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        let Data::Text { payload, left, ends } = *data else { return Err(End::Spoke) };
        let start = usize::from(self.bytes);
        let end = start + payload.len();
        if left.saturating_add(end as u64) > TEXT_BYTES_MAX as u64 {
            return Err(End::Spoke);
        }
        self.is_other |= PING.get(start..end) != Some(payload);
        self.bytes = end as u8;
        if ends {
            let text = std::mem::take(self);
            if !text.is_other && end == PING.len() {
                websocket::put_message(out, Opcode::Text, PONG);
            }
        }
        Ok(())
    }
}

/// Reads a WebSocket; `data` gets what messages hold.
fn hear_websocket(
    reader: &mut Reader,
    input: &mut [u8],
    out: &mut Vec<u8>,
    mut data: impl FnMut(Data<'_>, &mut Vec<u8>) -> Result<(), End>,
) -> Result<usize, End> {
    let mut taken = 0;
    loop {
        let (piece, bytes) = reader.next(&mut input[taken..]).map_err(|violation| {
            websocket::put_close(out, violation.code, violation.reason);
            End::Malformed
        })?;
        taken += bytes;
        match piece {
            Piece::NeedMore => return Ok(taken),
            Piece::Binary(payload) => data(Data::Binary(payload), out)?,
            Piece::Text { payload, left, ends } => data(Data::Text { payload, left, ends }, out)?,
            Piece::Ping(payload) => websocket::put_message(out, Opcode::Pong, payload),
            Piece::Pong => {}
            Piece::Close(code) => {
                // The same code comes back (5.5.1).
                let payload = code.map(u16::to_be_bytes);
                websocket::put_message(out, Opcode::Close, payload.as_ref().map_or(&[], |code| &code[..]));
                return Err(End::Gone);
            }
        }
    }
}

fn put_websocket_goodbye(out: &mut Vec<u8>, end: End) {
    let (code, reason) = match end {
        End::Stalled => return,
        End::Gone => (1000, "goodbye"),
        End::Malformed => (1002, "not as the protocol says"),
        End::TooLarge => (1009, "too large"),
        End::Spoke => (1008, "viewers may not send data"),
        // It would be no better later (1013).
        End::Refused => (1008, "refused, the MQTT packet before this says why"),
        End::Silent => (3008, "nothing was heard in time"),
        End::Flooding => (1008, "more was sent than viewers may send"),
        End::Fault => (1011, "a fault of this node"),
        End::Drained => (1012, "this node is about to stop, connect again"),
    };
    websocket::put_close(out, code, reason);
}
