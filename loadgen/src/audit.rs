//! Whether what was accepted is what everybody saw counted. Pure.

use crate::viewers::audience::Seat;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use wire::{Counts, Frame};

/// Names listed in a finding before "and n more".
const NAMES_MAX: usize = 5;

/// What the totals must come to.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The room before the first request, if there was one.
    pub(crate) baseline: Option<Frame>,
    /// Reactions that were accepted.
    pub(crate) accepted: u64,
    /// The same by reaction.
    pub(crate) accepted_counts: Counts,
    /// Reactions that may or may not have been counted, by reaction.
    pub(crate) unknown_counts: Counts,
    /// Answers of 202 that don't say what was sent.
    pub(crate) odd_answers: u64,
}

/// Somebody who saw the room, and the newest frame they have.
#[derive(Debug)]
pub(crate) struct Witness {
    /// Such as `mqtt 17` or `snapshot`.
    pub(crate) name: String,
    pub(crate) frame: Option<Arc<Frame>>,
    /// Frames that broke a promise, and the first of them in words.
    pub(crate) broken: u64,
    pub(crate) first_broken: Option<String>,
    /// Why a viewer never came in, and so is no witness.
    pub(crate) kept_out: Option<String>,
}

impl Witness {
    /// A viewer.
    pub(crate) fn viewer(protocol: &str, index: usize, seat: &Seat) -> Self {
        Self {
            name: format!("{protocol} {index}"),
            frame: seat.last.clone(),
            broken: seat.broken,
            first_broken: seat.first_broken.clone(),
            kept_out: (seat.connects == 0)
                .then(|| seat.last_error.clone().unwrap_or_else(|| "no answer".to_owned())),
        }
    }

    /// The snapshot that those who join would get.
    pub(crate) fn snapshot(frame: Option<Frame>) -> Self {
        Self {
            name: "snapshot".to_owned(),
            frame: frame.map(Arc::new),
            broken: 0,
            first_broken: None,
            kept_out: None,
        }
    }

    /// Nothing more is to come: the rest frame is in, or there never was a frame.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.frame.as_ref().is_none_or(|frame| frame.count == 0)
    }
}

/// The audit's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) clean: bool,
    /// Reactions that were accepted.
    pub(crate) accepted: u64,
    /// Reactions that may or may not have been counted.
    pub(crate) unknown: u64,
    /// What the room's total grew by, where all witnesses agree.
    pub(crate) counted: Option<u64>,
    /// The room's total before the first request.
    pub(crate) baseline: u64,
    /// Viewers whose newest total is right.
    pub(crate) viewers_right: usize,
    /// Viewers that were to watch.
    pub(crate) viewers: usize,
    /// Whether there is a snapshot, and its total is right.
    pub(crate) snapshot_right: bool,
    /// What is wrong, in words. Empty when clean.
    pub(crate) findings: Vec<String>,
    /// What could not be checked, in words.
    pub(crate) remarks: Vec<String>,
}

/// Compares what `viewers` and `snapshot` saw with what is expected. `snapshot` may be why there is none.
pub(crate) fn judge(
    expected: &Expected,
    viewers: &[Witness],
    snapshot: Result<&Witness, &String>,
) -> Verdict {
    let unknown = expected.unknown_counts.values().sum();
    let inside: Vec<_> = viewers.iter().filter(|viewer| viewer.kept_out.is_none()).collect();
    let witnesses: Vec<_> = inside.iter().copied().chain(snapshot.ok()).collect();
    let total = Quantity {
        what: "reactions",
        accepted: expected.accepted,
        unknown,
        grown: &|witness| Some(expected.grown(witness)),
    };
    let mut findings = Vec::new();
    let counted = total.compare(&witnesses, &mut findings);
    expected.compare_reactions(&witnesses, &mut findings);
    findings.extend(broken(viewers));
    findings.extend(kept_out(viewers));
    findings.extend(snapshot.err().map(|why| format!("no snapshot: {why}")));
    if expected.odd_answers > 0 {
        findings.push(format!("{} answers of 202 don't say what was sent", expected.odd_answers));
    }
    if expected.accepted == 0 {
        findings.push("nothing was accepted, so that nothing was shown".to_owned());
    }
    Verdict {
        clean: findings.is_empty(),
        accepted: expected.accepted,
        unknown,
        counted,
        baseline: expected.baseline.as_ref().map_or(0, |frame| frame.total),
        viewers_right: inside.iter().filter(|witness| total.allows(witness)).count(),
        viewers: viewers.len(),
        snapshot_right: snapshot.is_ok_and(|witness| total.allows(witness)),
        findings,
        remarks: expected.remarks(&witnesses),
    }
}

impl Expected {
    /// The baseline, as long as it is of the same life of the room as `frame`.
    fn base(&self, frame: &Frame) -> Option<&Frame> {
        self.baseline.as_ref().filter(|baseline| baseline.since == frame.since)
    }

    /// What the total that `witness` saw grew by. Below zero when a viewer has less than there was before.
    fn grown(&self, witness: &Witness) -> i128 {
        match &witness.frame {
            Some(frame) => {
                i128::from(frame.total) - i128::from(self.base(frame).map_or(0, |base| base.total))
            }
            // Who saw nothing is right only where there was nothing and nothing came.
            None => -i128::from(self.baseline.as_ref().map_or(0, |base| base.total)),
        }
    }

    /// The same for one reaction. `None` where the frame doesn't tell: it is cut to the most frequent reactions, or the reaction
    /// is among the others.
    fn reaction_grown(&self, reaction: &str, witness: &Witness) -> Option<i128> {
        let frame = witness.frame.as_ref()?;
        let before = self.base(frame).map_or(Some(0), |base| total_of(base, reaction))?;
        Some(i128::from(total_of(frame, reaction)?) - i128::from(before))
    }

    fn compare_reactions(&self, witnesses: &[&Witness], findings: &mut Vec<String>) {
        for (reaction, accepted) in &self.accepted_counts {
            let quantity = Quantity {
                what: reaction,
                accepted: *accepted,
                unknown: self.unknown_counts.get(reaction).copied().unwrap_or(0),
                grown: &|witness| self.reaction_grown(reaction, witness),
            };
            quantity.compare(witnesses, findings);
        }
    }

    fn remarks(&self, witnesses: &[&Witness]) -> Vec<String> {
        let mut remarks = Vec::new();
        let hidden = |reaction: &&wire::Reaction| {
            witnesses.iter().any(|w| w.frame.is_some() && self.reaction_grown(reaction, w).is_none())
        };
        let hidden: Vec<_> = self.accepted_counts.keys().filter(hidden).map(ToString::to_string).collect();
        if !hidden.is_empty() {
            remarks.push(format!("not checked one by one, frames don't show them: {}", hidden.join(" ")));
        }
        if witnesses.iter().any(|witness| !witness.is_at_rest()) {
            remarks.push(
                "the room had not come to rest (no frame with a count of 0) in the time to settle".to_owned(),
            );
        }
        remarks
    }
}

/// The frame's total of `reaction`. `None` when the reaction isn't shown and the frame is cut or has others.
fn total_of(frame: &Frame, reaction: &str) -> Option<u64> {
    let all_shown = frame.totals.values().sum::<u64>() == frame.total;
    frame.totals.get(reaction).copied().or(all_shown.then_some(0))
}

/// Something that is counted: all reactions, or one.
struct Quantity<'a> {
    what: &'a str,
    accepted: u64,
    unknown: u64,
    /// How much a witness saw it grow; `None` when they can't tell.
    grown: &'a dyn Fn(&Witness) -> Option<i128>,
}

impl Quantity<'_> {
    fn allows(&self, witness: &Witness) -> bool {
        (self.grown)(witness).is_none_or(|grown| self.off_by(grown) == 0)
    }

    /// How far `grown` is outside of what is possible.
    fn off_by(&self, grown: i128) -> i128 {
        let least = i128::from(self.accepted);
        let most = least + i128::from(self.unknown);
        grown - grown.clamp(least, most)
    }

    /// Adds a finding for each wrong figure, and for right ones that differ. The figure that all agree on, if they do.
    fn compare(&self, witnesses: &[&Witness], findings: &mut Vec<String>) -> Option<u64> {
        let mut seen: BTreeMap<i128, Vec<&str>> = BTreeMap::new();
        for witness in witnesses {
            if let Some(grown) = (self.grown)(witness) {
                seen.entry(grown).or_default().push(&witness.name);
            }
        }
        for (grown, names) in &seen {
            let (off, who) = (self.off_by(*grown), list(names));
            if off != 0 {
                let way = if off < 0 { "too few" } else { "too many" };
                findings.push(format!("{}: {who} counted {grown}, {} {way}", self.what, off.abs()));
            }
        }
        if seen.len() > 1 && seen.keys().all(|grown| self.off_by(*grown) == 0) {
            let sides: Vec<_> =
                seen.iter().map(|(grown, names)| format!("{} counted {grown}", list(names))).collect();
            findings.push(format!("{}: the witnesses disagree: {}", self.what, sides.join("; ")));
        }
        match seen.into_keys().collect::<Vec<_>>()[..] {
            [agreed] => u64::try_from(agreed).ok(),
            _ => None,
        }
    }
}

fn broken(viewers: &[Witness]) -> Option<String> {
    let broken: Vec<_> = viewers.iter().filter(|witness| witness.broken > 0).collect();
    let first = broken.first()?;
    let names: Vec<_> = broken.iter().map(|witness| witness.name.as_str()).collect();
    let frames: u64 = broken.iter().map(|witness| witness.broken).sum();
    Some(format!(
        "{frames} frames that break a promise, seen by {}; the first: {}",
        list(&names),
        first.first_broken.as_deref().unwrap_or("unknown"),
    ))
}

fn kept_out(viewers: &[Witness]) -> Option<String> {
    let outside: Vec<_> =
        viewers.iter().filter_map(|viewer| Some((viewer, viewer.kept_out.as_ref()?))).collect();
    let (_, why) = outside.first()?;
    let names: Vec<_> = outside.iter().map(|(viewer, _)| viewer.name.as_str()).collect();
    Some(format!("never connected: {}; the first: {why}", list(&names)))
}

/// The first few names, and how many more there are.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
