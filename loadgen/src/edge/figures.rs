//! What receipts add up to. Pure.

use super::lines::Receipt;
use crate::spread::{Quantiles, Spread};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the viewers of one server process received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Viewers that were let in.
    pub(crate) viewers: u64,
    /// The frame before the first that is measured.
    pub(crate) base: u64,
    /// All receipts by `seq`.
    pub(crate) receipts: BTreeMap<u64, Receipt>,
}

/// How the measured frames came through, over all processes of a server.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures {
    pub(crate) deliveries: u64,
    /// Frames that viewers who were let in did not receive, each counted for each viewer.
    pub(crate) missed: u64,
    /// From a frame's publication to the first and the last receipt anywhere.
    pub(crate) first: Option<Quantiles>,
    pub(crate) last: Option<Quantiles>,
    /// From the first to the last receipt.
    pub(crate) spread: Option<Quantiles>,
}

/// Adds up `frames` frames. The n-th was published at `published_us[n]`, where that is known; otherwise at the end of
/// its window, where it has one.
pub(crate) fn gather(seen: &[Seen], frames: u64, published_us: &[u64]) -> Figures {
    let (mut first, mut last, mut spread) = (Spread::default(), Spread::default(), Spread::default());
    let mut deliveries = 0;
    for nth in 0..frames {
        let receipts = seen.iter().filter_map(|process| process.receipts.get(&(process.base + 1 + nth)));
        let Some(frame) = receipts.copied().reduce(Receipt::and) else { continue };
        deliveries += frame.count;
        spread.record_us(frame.last_us.saturating_sub(frame.first_us));
        let published = usize::try_from(nth).ok().and_then(|nth| published_us.get(nth).copied());
        if let Some(published) = published.or_else(|| frame.end_ms.map(|end_ms| end_ms.saturating_mul(1_000)))
        {
            first.record_us(frame.first_us.saturating_sub(published));
            last.record_us(frame.last_us.saturating_sub(published));
        }
    }
    let due: u64 = seen.iter().map(|process| process.viewers * frames).sum();
    Figures {
        deliveries,
        missed: due.saturating_sub(deliveries),
        first: first.quantiles(),
        last: last.quantiles(),
        spread: spread.quantiles(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(first_us: u64, last_us: u64, count: u64) -> Receipt {
        Receipt { first_us, last_us, count, end_ms: None }
    }

    fn seen(base: u64, receipts: &[Receipt]) -> Seen {
        let receipts = (base + 1..).zip(receipts.iter().copied()).collect();
        Seen { viewers: 10, base, receipts }
    }

    #[test]
    fn a_frame_lasts_from_the_first_receipt_to_the_last_of_all_processes() {
        let one = seen(1, &[receipt(1_100, 1_900, 10), receipt(2_100, 2_200, 10)]);
        let two = seen(7, &[receipt(1_050, 1_500, 10), receipt(2_300, 2_700, 10)]);
        let figures = gather(&[one, two], 2, &[1_000, 2_000]);
        assert_eq!((figures.deliveries, figures.missed), (40, 0));
        let max = |q: Option<Quantiles>| q.unwrap().max_us;
        assert_eq!((max(figures.first), max(figures.last), max(figures.spread)), (100, 900, 850));
    }

    #[test]
    fn every_viewer_and_frame_without_a_receipt_is_missed() {
        let one = seen(1, &[receipt(1, 2, 10), receipt(3, 4, 7)]);
        assert_eq!(gather(std::slice::from_ref(&one), 2, &[]).missed, 3);
        // A frame that nobody got, a process whose viewers got nothing.
        assert_eq!(gather(std::slice::from_ref(&one), 3, &[]).missed, 13);
        assert_eq!(gather(&[one, seen(0, &[])], 2, &[]).missed, 23);
    }

    #[test]
    fn frames_outside_the_measured_ones_do_not_count() {
        let mut one = seen(4, &[receipt(1, 2, 10), receipt(3, 4, 10)]);
        one.receipts.insert(4, receipt(0, 9_999, 10));
        let figures = gather(&[one], 1, &[]);
        assert_eq!((figures.deliveries, figures.missed), (10, 0));
        assert_eq!(figures.spread.unwrap().max_us, 1);
    }

    #[test]
    fn without_a_time_of_publication_the_end_of_the_window_is_it() {
        let mut frame = receipt(5_000_700, 5_000_900, 10);
        assert_eq!(gather(&[seen(0, &[frame])], 1, &[]).first, None);
        frame.end_ms = Some(5_000);
        assert_eq!(gather(&[seen(0, &[frame])], 1, &[]).first.unwrap().max_us, 700);
    }
}
