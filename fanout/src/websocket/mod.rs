//! WebSocket (RFC 6455), the server's side: the handshake, and messages in and out. Pure.
//!
//! - `handshake`: whether a request opens a WebSocket, and the answer to its key.
//! - `reader`: what a client sends, piece by piece.

mod handshake;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use handshake::{Handshake, Unfit};
pub(crate) use reader::{Piece, Reader};

/// What a message, or a part of one, is (5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Longest payload of a control frame (5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// A whole message in one frame. A server does not mask (5.1).
pub(crate) fn message(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    put_message(&mut frame, opcode, payload);
    frame
}

/// Appends a whole message.
pub(crate) fn put_message(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The length of a message with so much payload, its header included.
pub(crate) fn message_bytes(payload_bytes: usize) -> usize {
    let header_bytes = match payload_bytes {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    payload_bytes.saturating_add(header_bytes)
}

/// Appends a close with `code` (7.4) and a reason of at most 123 bytes.
pub(crate) fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(reason.len() + 2 <= CONTROL_BYTES_MAX);
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    put_message(out, Opcode::Close, &payload);
}
