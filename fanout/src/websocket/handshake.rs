//! The opening handshake (RFC 6455, 4.2).

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};
use sha1::{Digest, Sha1};

/// Appended to the client's key (1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
/// The key is only hashed, so its last bits may be anything: the example of the standard (4.1, item 7) is not canonical Base64.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The headers that open a WebSocket, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Handshake<'a> {
    pub(crate) connection: &'a str,
    pub(crate) upgrade: &'a str,
    pub(crate) version: &'a str,
    pub(crate) key: &'a str,
    /// `Sec-WebSocket-Protocol`, joined by commas.
    pub(crate) protocols: &'a str,
}

/// Why a request opens no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It doesn't ask for an upgrade to `websocket`.
    NoUpgrade,
    /// It asks for another version than 13.
    Version,
    /// Its key is not 16 bytes of Base64.
    Key,
    /// It announces a body, which would be read as frames.
    Body,
}

impl Handshake<'_> {
    /// Checks the request, and gives the value of `Sec-WebSocket-Accept`.
    pub(crate) fn accept(&self) -> Result<String, Unfit> {
        let holds = |list: &str, token: &str| list.split(',').any(|t| t.trim().eq_ignore_ascii_case(token));
        if !holds(self.connection, "upgrade") || !holds(self.upgrade, "websocket") {
            return Err(Unfit::NoUpgrade);
        }
        if self.version.trim() != "13" {
            return Err(Unfit::Version);
        }
        let key = self.key.trim();
        match LENIENT.decode(key) {
            Ok(bytes) if bytes.len() == KEY_BYTES => Ok(accept_key(key)),
            _ => Err(Unfit::Key),
        }
    }

    /// Whether the client speaks `protocol` inside the WebSocket. Names are case-sensitive tokens.
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols.split(',').any(|offered| offered.trim() == protocol)
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (4.2.2, step 5.4).
fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Handshake<'_> = Handshake {
        connection: "keep-alive, Upgrade",
        upgrade: "websocket",
        version: "13",
        key: "dGhlIHNhbXBsZSBub25jZQ==",
        protocols: "soap, mqtt",
    };

    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        assert_eq!(GOOD.accept(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    }

    #[test]
    fn a_keys_last_bits_may_be_anything_but_no_byte_may_be_missing() {
        let key = "AQIDBAUGBwgJCgsMDQ4PEC==";
        assert_eq!(Handshake { key, ..GOOD }.accept(), Ok(accept_key(key)));
        for key in ["AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEC", "AQIDBAUGBwgJCgsMDQ4PEBE="] {
            assert_eq!(Handshake { key, ..GOOD }.accept(), Err(Unfit::Key), "{key}");
        }
    }

    #[test]
    fn what_opens_no_websocket_is_told_apart() {
        for (handshake, why) in [
            (Handshake { connection: "keep-alive", ..GOOD }, Unfit::NoUpgrade),
            (Handshake { upgrade: "h2c", ..GOOD }, Unfit::NoUpgrade),
            (Handshake { version: "8", ..GOOD }, Unfit::Version),
            (Handshake { key: "c2hvcnQ=", ..GOOD }, Unfit::Key),
            (Handshake { key: "not base64!", ..GOOD }, Unfit::Key),
            (Handshake::default(), Unfit::NoUpgrade),
        ] {
            assert_eq!(handshake.accept(), Err(why), "{handshake:?}");
        }
    }

    #[test]
    fn protocols_are_offered_in_a_list_and_told_apart_by_case() {
        assert!(GOOD.offers("mqtt") && GOOD.offers("soap"));
        assert!(!GOOD.offers("MQTT") && !GOOD.offers("mqttv3.1"));
        assert!(!Handshake::default().offers("mqtt"));
    }
}
