//! What a client sends, read piece by piece: nothing is left over but the start of a header or of a control frame.

use super::Opcode;

/// Reads the frames of one connection.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Of the data frame under way.
    left: u64,
    mask: [u8; 4],
    /// A fragmented message is under way.
    fragmented: bool,
    /// The message under way is a text.
    text: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// More bytes are needed.
    NeedMore,
    /// Payload of a binary message, unmasked in place; messages are not told apart.
    Binary(&'a [u8]),
    /// Payload of a text, unmasked in place. `left`: bytes of its frame that are still to come. `ends`: it is the message's last.
    Text {
        payload: &'a [u8],
        left: u64,
        ends: bool,
    },
    Ping(&'a [u8]),
    Pong,
    /// With the code, where it has one.
    Close(Option<u16>),
}

/// How a client violates the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The code with which it is closed (7.4.1).
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Violation {
    fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }
}

struct Header {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    header_bytes: usize,
    payload_bytes: u64,
}

impl Reader {
    /// Takes the next piece from the start of `input`, and says how many bytes it took.
    pub(crate) fn next<'a>(&mut self, input: &'a mut [u8]) -> Result<(Piece<'a>, usize), Violation> {
        if self.left > 0 {
            return Ok(if input.is_empty() { (Piece::NeedMore, 0) } else { self.payload(input) });
        }
        let Some(header) = Header::read(input)? else { return Ok((Piece::NeedMore, 0)) };
        if header.opcode as u8 >= 8 {
            return control(&header, input);
        }
        match (header.opcode, self.fragmented) {
            (Opcode::Continuation, false) => return Err(Violation::protocol("a continuation of nothing")),
            (Opcode::Text | Opcode::Binary, true) => {
                return Err(Violation::protocol("a new message inside a fragmented one"));
            }
            (opcode, false) => self.text = opcode == Opcode::Text,
            (_, true) => {}
        }
        self.fragmented = !header.fin;
        (self.left, self.mask) = (header.payload_bytes, header.mask);
        let (piece, taken) = self.payload(&mut input[header.header_bytes..]);
        Ok((piece, header.header_bytes + taken))
    }

    /// As much of the data frame as is here.
    fn payload<'a>(&mut self, input: &'a mut [u8]) -> (Piece<'a>, usize) {
        let here = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        let payload = &mut input[..here];
        unmask(payload, self.mask);
        self.left -= here as u64;
        self.mask.rotate_left(here % 4);
        if self.text {
            let (left, ends) = (self.left, self.left == 0 && !self.fragmented);
            return (Piece::Text { payload, left, ends }, here);
        }
        (Piece::Binary(payload), here)
    }
}

impl Header {
    /// `None`: not whole yet.
    fn read(input: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = input else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::protocol("a reserved bit without an extension"));
        }
        if second & 0x80 == 0 {
            return Err(Violation::protocol("a frame of a client that is not masked"));
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::protocol("an opcode that does not exist")),
        };
        let fin = first & 0x80 != 0;
        if opcode as u8 >= 8 && (!fin || second & 0x7f > 125) {
            return Err(Violation::protocol("a control frame that is fragmented or longer than 125 bytes"));
        }
        let (payload_bytes, shortest, rest) = match (second & 0x7f, rest) {
            (126, &[a, b, ref rest @ ..]) => (u64::from(u16::from_be_bytes([a, b])), 126, rest),
            (127, &[a, b, c, d, e, f, g, h, ref rest @ ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 1 << 16, rest)
            }
            (126 | 127, _) => return Ok(None),
            (len, rest) => (u64::from(len), 0, rest),
        };
        // The minimal number of bytes must be used to encode the length (5.2).
        if payload_bytes < shortest {
            return Err(Violation::protocol("a length that takes more bytes than it needs"));
        }
        if payload_bytes > i64::MAX as u64 {
            return Err(Violation::protocol("a length with its highest bit set"));
        }
        let &[a, b, c, d, ref payload @ ..] = rest else { return Ok(None) };
        let header_bytes = input.len() - payload.len();
        Ok(Some(Self { fin, opcode, mask: [a, b, c, d], header_bytes, payload_bytes }))
    }
}

fn control<'a>(header: &Header, input: &'a mut [u8]) -> Result<(Piece<'a>, usize), Violation> {
    let end = header.header_bytes + header.payload_bytes as usize;
    let Some(payload) = input.get_mut(header.header_bytes..end) else { return Ok((Piece::NeedMore, 0)) };
    unmask(payload, header.mask);
    let piece = match (header.opcode, &*payload) {
        (Opcode::Ping, payload) => Piece::Ping(payload),
        (Opcode::Close, []) => Piece::Close(None),
        (Opcode::Close, [a, b, reason @ ..]) => {
            let code = u16::from_be_bytes([*a, *b]);
            if !may_be_sent(code) {
                return Err(Violation::protocol("a close with a code that may not be sent"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation { code: 1007, reason: "a close with a reason that is not UTF-8" });
            }
            Piece::Close(Some(code))
        }
        (Opcode::Close, _) => return Err(Violation::protocol("a close with half a code")),
        _ => Piece::Pong,
    };
    Ok((piece, end))
}

/// Whether a close may carry `code` (7.4; later ones from the registry).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
