//! What arrived: by frame, and whether it is news to the viewer.

use super::super::lines::Receipt;
use std::collections::{BTreeMap, BTreeSet};

/// Receipts of all viewers of this process.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Packets that no viewer should get.
    pub(super) odd: u64,
    /// The most frames that a viewer missed between two.
    pub(super) widest_gap: u64,
    /// Size of the latest frame.
    pub(super) frame_bytes: usize,
    by_seq: BTreeMap<u64, Receipt>,
    changed: BTreeSet<u64>,
}

impl Receipts {
    /// A viewer received `payload` at `at_us`; `last_seq` is the viewer's own. Whether it is a frame at all.
    pub(super) fn note(&mut self, payload: &[u8], last_seq: &mut u64, at_us: u64) -> bool {
        let Some(seq) = number_after(payload, b"\"seq\":") else { return false };
        self.frame_bytes = payload.len();
        // A frame that comes again, such as the snapshot beside the live one, was not missed and is not counted twice.
        if seq <= *last_seq {
            return true;
        }
        if *last_seq > 0 {
            self.widest_gap = self.widest_gap.max(seq - *last_seq - 1);
        }
        *last_seq = seq;
        let receipt = self.by_seq.entry(seq).or_insert_with(|| Receipt {
            first_us: at_us,
            last_us: at_us,
            count: 0,
            end_ms: number_after(payload, b"\"end\":"),
        });
        receipt.last_us = at_us;
        receipt.count += 1;
        self.changed.insert(seq);
        true
    }

    /// What has changed since the last time this was called.
    pub(super) fn take_changed(&mut self) -> BTreeMap<u64, Receipt> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|seq| Some((seq, *self.by_seq.get(&seq)?))).collect()
    }
}

/// The whole number that follows the first `key`. A full parse would cost more than all of the rest.
fn number_after(json: &[u8], key: &[u8]) -> Option<u64> {
    let start = json.windows(key.len()).position(|window| window == key)? + key.len();
    let digits = json[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&json[start..start + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = include_bytes!("../../../../wire/golden/frame.json");

    #[test]
    fn a_frame_of_uproar_tells_its_number_and_its_window() {
        let (mut receipts, mut last) = (Receipts::default(), 0);
        assert!(receipts.note(FRAME, &mut last, 7));
        let end_ms = Some(1_763_000_002_000);
        assert_eq!(
            receipts.take_changed(),
            [(412, Receipt { first_us: 7, last_us: 7, count: 1, end_ms })].into()
        );
        assert!(receipts.take_changed().is_empty());
    }

    #[test]
    fn a_frame_counts_once_for_each_viewer() {
        let mut receipts = Receipts::default();
        let (mut one, mut two) = (0, 0);
        for (viewer, at) in [(&mut one, 5), (&mut two, 9)] {
            assert!(receipts.note(br#"{"seq":3}"#, viewer, at));
            assert!(receipts.note(br#"{"seq":3}"#, viewer, at + 1));
        }
        let receipt = Receipt { first_us: 5, last_us: 9, count: 2, end_ms: None };
        assert_eq!(receipts.take_changed(), [(3, receipt)].into());
    }

    #[test]
    fn a_greeting_is_no_frame() {
        let (mut receipts, mut last) = (Receipts::default(), 0);
        assert!(!receipts.note(br#"{"hello":1,"room":"r","reconnect_jitter_ms":5000}"#, &mut last, 1));
        assert!(!receipts.note(br#"{"seq":"three"}"#, &mut last, 1));
        assert!(receipts.take_changed().is_empty());
    }
}
