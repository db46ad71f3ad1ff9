//! A viewer of all rooms, who sees that totals never go back, whatever dies.

use super::accounts::Sums;
use crate::harness::http;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::task::JoinSet;

/// Between two looks at all rooms.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks at all rooms again and again until it is dropped.
pub struct Watcher(JoinSet<()>);

impl Watcher {
    pub fn start(address: &str, rooms: &[String]) -> Self {
        let mut task = JoinSet::new();
        task.spawn(watch(address.to_owned(), rooms.to_vec()));
        Self(task)
    }

    /// Fails if it has seen something wrong.
    pub fn check(&mut self) {
        if let Some(ended) = self.0.try_join_next() {
            ended.expect("totals and seq never go back");
        }
    }
}

async fn watch(address: String, rooms: Vec<String>) {
    let mut newest: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    loop {
        for room in &rooms {
            let Some(frame) = snapshot(&address, room).await else { continue };
            let field = |name: &str| frame[name].as_u64().unwrap();
            let (since, seq, total) = (field("since"), field("seq"), field("total"));
            if let Some(before) = newest.insert(room.clone(), (since, seq, total)) {
                let now = (since, seq, total);
                assert!(
                    before.0 == since && before.1 <= seq && before.2 <= total,
                    "{room}: {now:?} after {before:?}"
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A room's newest frame; `None` where nobody answers, or there is none.
pub async fn snapshot(address: &str, room: &str) -> Option<Value> {
    let answer = http::get(address, &format!("/v1/rooms/{room}")).await?;
    (answer.status == 200).then(|| answer.json())
}

/// The totals that viewers see now.
pub async fn seen(address: &str, rooms: &[String]) -> Sums {
    let mut sums = Sums::new();
    for room in rooms {
        let Some(frame) = snapshot(address, room).await else { continue };
        for (reaction, total) in frame["totals"].as_object().unwrap() {
            sums.insert((room.clone(), reaction.clone()), total.as_u64().unwrap());
        }
    }
    sums
}
