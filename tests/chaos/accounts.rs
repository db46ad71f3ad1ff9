//! What was sent and how it was answered, and whether what is in the log agrees.

use crate::harness::wait::until;
use std::{collections::BTreeMap, sync::Mutex, time::Duration};

/// Reactions by room and reaction.
pub type Sums = BTreeMap<(String, String), u64>;

/// What the posters know. What was neither accepted nor refused is unknown: it may be counted, or not.
#[derive(Default)]
pub struct Accounts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    entries: BTreeMap<(String, String), Entry>,
    slowest: Duration,
    requests: BTreeMap<String, u64>,
}

#[derive(Default, Clone, Copy)]
struct Entry {
    sent: u64,
    accepted: u64,
    refused: u64,
}

impl Accounts {
    pub fn send(&self, room: &str, reaction: &str, count: u64) {
        self.change(room, reaction, |entry| entry.sent += count);
    }

    /// The answer to it: an HTTP status, `None` where none came.
    pub fn answer(&self, room: &str, reaction: &str, count: u64, status: Option<u16>, after: Duration) {
        match status {
            Some(202) => self.change(room, reaction, |entry| entry.accepted += count),
            Some(503) => self.change(room, reaction, |entry| entry.refused += count),
            Some(504) | None => {}
            Some(other) => panic!("answered {other}"),
        }
        let mut inner = self.0.lock().unwrap();
        let answer = status.map_or("no answer".to_owned(), |status| status.to_string());
        *inner.requests.entry(answer).or_default() += 1;
        inner.slowest = inner.slowest.max(after);
    }

    fn change(&self, room: &str, reaction: &str, change: impl FnOnce(&mut Entry)) {
        let mut inner = self.0.lock().unwrap();
        change(inner.entries.entry((room.to_owned(), reaction.to_owned())).or_default());
    }

    /// Accepted so far, by room.
    pub fn accepted(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((room, _), entry) in &self.0.lock().unwrap().entries {
            *sums.entry(room.clone()).or_default() += entry.accepted;
        }
        sums
    }

    /// All reactions that were accepted so far.
    pub fn accepted_sum(&self) -> u64 {
        self.0.lock().unwrap().entries.values().map(|entry| entry.accepted).sum()
    }

    /// Waits until more reactions were accepted than at this call. A life without any would prove nothing.
    pub async fn until_more_accepted(&self) {
        let before = self.accepted_sum();
        until("posts to be accepted", async || (self.accepted_sum() > before).then_some(())).await;
    }

    /// Whether all that was accepted is in `found`.
    pub fn covered_by(&self, found: &Sums) -> bool {
        let inner = self.0.lock().unwrap();
        inner.entries.iter().all(|(key, entry)| found.get(key).copied().unwrap_or(0) >= entry.accepted)
    }

    /// Fails where something is lost or double. Right while reactions are posted, too, as long as nothing is written:
    /// what is accepted was sent before, and what was sent is unknown until it is answered.
    pub fn check(&self, found: &Sums) {
        let inner = self.0.lock().unwrap();
        let unsent: Vec<_> = found.keys().filter(|key| !inner.entries.contains_key(key)).collect();
        assert!(unsent.is_empty(), "nobody sent {unsent:?}");
        for (key, Entry { sent, accepted, refused }) in &inner.entries {
            let (count, most) = (found.get(key).copied().unwrap_or(0), sent - refused);
            assert!(*accepted <= count, "{key:?}: {accepted} accepted, {count} found: lost");
            assert!(count <= most, "{key:?}: {count} found of {most} accepted or unknown: double");
        }
    }

    /// One line for who reads along.
    pub fn summary(&self) -> String {
        let inner = self.0.lock().unwrap();
        let sum = |of: fn(&Entry) -> u64| inner.entries.values().map(of).sum::<u64>();
        let (accepted, refused) = (sum(|e| e.accepted), sum(|e| e.refused));
        let unknown = sum(|e| e.sent) - accepted - refused;
        let (requests, slowest) = (&inner.requests, inner.slowest);
        format!(
            "{accepted} accepted, {unknown} unknown, {refused} refused; slowest answer {slowest:?}; requests {requests:?}"
        )
    }
}

/// Adds up.
pub fn total(sums: &Sums) -> u64 {
    sums.values().sum()
}
