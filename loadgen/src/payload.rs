//! The bodies that are posted, encoded once, and what each of them counts.

use bytes::Bytes;
use wire::{Counts, Reaction, SkinTones};

/// One body, sent over and over.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// JSON.
    pub(crate) body: Bytes,
    /// What it adds by reaction, each in its canonical form: that is what frames show.
    pub(crate) counts: Counts,
    /// What it adds in all.
    pub(crate) count: u64,
}

/// The bodies that rotate through `reactions`: each holds `count` of one reaction or, with `batch`, of that many
/// neighbours in the list.
pub(crate) fn payloads(reactions: &[Reaction], count: u64, batch: Option<usize>) -> Vec<Payload> {
    let size = batch.unwrap_or(1);
    (0..reactions.len())
        .map(|first| {
            let mut counts = Counts::new();
            for reaction in reactions.iter().cycle().skip(first).take(size) {
                *counts.entry(canonical(reaction)).or_default() += count;
            }
            let body = match batch {
                Some(_) => serde_json::json!({ "reactions": counts }),
                None if count == 1 => serde_json::json!({ "reaction": reactions[first] }),
                None => serde_json::json!({ "reaction": reactions[first], "count": count }),
            };
            Payload { body: body.to_string().into(), count: counts.values().sum(), counts }
        })
        .collect()
}

/// The form that is counted, where skin tones are folded. One that the server refuses is never counted.
fn canonical(reaction: &Reaction) -> Reaction {
    Reaction::canonical(reaction, SkinTones::Fold).unwrap_or_else(|_| reaction.clone())
}

/// What so many posts of each payload add up to, by reaction.
pub(crate) fn sum(payloads: &[Payload], posts: &[u64]) -> Counts {
    let mut counts = Counts::new();
    for (payload, posts) in payloads.iter().zip(posts) {
        for (reaction, count) in &payload.counts {
            *counts.entry(reaction.clone()).or_default() += count * posts;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(reactions: &[&str], count: u64, batch: Option<usize>) -> Vec<String> {
        let reactions: Vec<Reaction> = reactions.iter().map(|r| r.parse().unwrap()).collect();
        let payloads = payloads(&reactions, count, batch);
        payloads.iter().map(|p| String::from_utf8(p.body.to_vec()).unwrap()).collect()
    }

    #[test]
    fn each_form_of_the_contract_is_spoken() {
        assert_eq!(bodies(&["🔥", "👏"], 1, None), [r#"{"reaction":"🔥"}"#, r#"{"reaction":"👏"}"#]);
        assert_eq!(bodies(&["🔥"], 7, None), [r#"{"count":7,"reaction":"🔥"}"#]);
        assert_eq!(bodies(&["a", "b", "c"], 2, Some(2))[2], r#"{"reactions":{"a":2,"c":2}}"#);
    }

    #[test]
    fn what_is_counted_is_what_is_in_the_body() {
        let reactions = ["a", "b", "c"].map(|r| r.parse().unwrap());
        let all = payloads(&reactions, 5, Some(3));
        assert!(all.iter().all(|p| p.count == 15 && p.counts.len() == 3));
    }

    #[test]
    fn a_body_says_what_was_asked_for_and_counts_under_the_canonical_form() {
        let payload = payloads(&["❤", "👏🏽"].map(|r| r.parse().unwrap()), 1, None).remove(0);
        assert_eq!(payload.body, r#"{"reaction":"❤"}"#);
        assert!(payload.counts.contains_key("❤️"));
    }

    #[test]
    fn a_reaction_listed_twice_is_sent_twice_as_often() {
        let all = payloads(&["a", "a", "b"].map(|r| r.parse().unwrap()), 1, None);
        assert_eq!(all.iter().filter(|p| p.counts.contains_key("a")).count(), 2);
    }
}
