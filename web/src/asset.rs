//! One file in memory: its bytes in each content coding, made at the first request for it, and its entity tags.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha1::{Digest, Sha1};
use std::{fmt::Write as _, io::Write as _, sync::OnceLock};

/// Brotli's quality: the last steps to 11 save 2% and take ten times as long.
const BROTLI_QUALITY: u32 = 9;
/// Brotli's window, as a power of two. The files are far smaller.
const BROTLI_WINDOW: u32 = 20;
const BROTLI_BUFFER_BYTES: usize = 16 * 1024;

/// A content coding (RFC 9110, 8.4.1) that assets are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The bytes themselves.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// The name in `Content-Encoding`. None for the bytes themselves.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }

    /// The best coding that an `Accept-Encoding` allows (RFC 9110, 12.5.3). Weights other than 0 make no difference: the smaller answer wins.
    pub(crate) fn of(accept_encoding: &str) -> Self {
        let mut best = Self::Identity;
        for item in accept_encoding.split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            if is_refused(parameters) {
                continue;
            }
            match name.trim() {
                "br" => return Self::Brotli,
                "gzip" | "x-gzip" => best = Self::Gzip,
                _ => {}
            }
        }
        best
    }
}

/// Whether the parameters of a coding hold the weight 0, which excludes it.
fn is_refused(parameters: &str) -> bool {
    let weight = parameters.trim().strip_prefix("q=").or_else(|| parameters.trim().strip_prefix("Q="));
    weight.is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight == 0.0))
}

/// A file, and what it becomes on the wire.
#[derive(Debug)]
pub(crate) struct Asset {
    /// The value of `Content-Type`.
    pub(crate) media_type: &'static str,
    bytes: Bytes,
    digest: String,
    gzip: OnceLock<Bytes>,
    brotli: OnceLock<Bytes>,
}

impl Asset {
    pub(crate) fn new(name: &str, bytes: Bytes) -> Self {
        let digest = digest_of([&*bytes]);
        Self {
            media_type: media_type_of(name),
            bytes,
            digest,
            gzip: OnceLock::new(),
            brotli: OnceLock::new(),
        }
    }

    /// The strong entity tag of the file in `coding` (RFC 9110, 8.8.3): each coding has its own.
    pub(crate) fn etag(&self, coding: Coding) -> String {
        match coding.name() {
            None => format!("\"{}\"", self.digest),
            Some(name) => format!("\"{}-{name}\"", self.digest),
        }
    }

    /// The bytes in `coding`.
    pub(crate) fn body(&self, coding: Coding) -> Bytes {
        match coding {
            Coding::Identity => self.bytes.clone(),
            Coding::Gzip => self.gzip.get_or_init(|| gzip(&self.bytes)).clone(),
            Coding::Brotli => self.brotli.get_or_init(|| brotli(&self.bytes)).clone(),
        }
    }
}

/// Twelve hexadecimal digits that change when any of the parts does.
pub(crate) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha1::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn media_type_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Both write to memory, which can't fail; an empty answer would be wrong, so the plain bytes stand in.
    match encoder.write_all(bytes).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed.into(),
        Err(_) => Bytes::copy_from_slice(bytes),
    }
}

fn brotli(bytes: &[u8]) -> Bytes {
    let mut compressed = Vec::new();
    let mut encoder =
        brotli::CompressorWriter::new(&mut compressed, BROTLI_BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW);
    // Memory takes every write, and dropping the encoder ends the stream.
    let _ = encoder.write_all(bytes);
    drop(encoder);
    compressed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_smallest_coding_that_is_accepted_is_taken() {
        for (accepted, coding) in [
            ("", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("gzip, deflate, br", Coding::Brotli),
            ("br;q=0, gzip", Coding::Gzip),
            ("gzip;q=0", Coding::Identity),
            ("br;q=0.000, x-gzip;q=0.1", Coding::Gzip),
            ("deflate, zstd", Coding::Identity),
        ] {
            assert_eq!(Coding::of(accepted), coding, "{accepted}");
        }
    }

    #[test]
    fn every_coding_holds_the_same_bytes_and_has_a_tag_of_its_own() {
        let text = "a reaction, and another one; ".repeat(200);
        let asset = Asset::new("a.js", Bytes::from(text.clone()));
        let mut unzipped = String::new();
        let zipped = asset.body(Coding::Gzip);
        flate2::read::GzDecoder::new(&*zipped).read_to_string(&mut unzipped).unwrap();
        let mut unbrotlied = String::new();
        let brotlied = asset.body(Coding::Brotli);
        brotli::Decompressor::new(&*brotlied, 4096).read_to_string(&mut unbrotlied).unwrap();
        assert_eq!((unzipped, unbrotlied), (text.clone(), text.clone()));
        assert!(zipped.len() < text.len() / 10 && brotlied.len() < text.len() / 10);
        let tags = [Coding::Identity, Coding::Gzip, Coding::Brotli].map(|coding| asset.etag(coding));
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    }

    #[test]
    fn a_digest_tells_where_one_part_ends() {
        assert_ne!(digest_of([&b"ab"[..], b"c"]), digest_of([&b"a"[..], b"bc"]));
    }
}
