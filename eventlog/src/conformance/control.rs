//! Cases: what is ordered is kept, read and written by one of two rivals.

use super::{LogFactory, within};
use crate::{ControlEvent, ControlPut, ControlReader, EventLog, Expected, PutError};
use std::collections::BTreeMap;

/// What a reader has seen: value and version by key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen(BTreeMap<String, (u64, String)>);

impl Seen {
    fn take(&mut self, event: ControlEvent) -> bool {
        let ControlEvent::Records(records) = event else { return true };
        assert!(!records.is_empty());
        for record in records {
            let before = self.0.get(&record.key).map_or(0, |(version, _)| *version);
            match record.value {
                Some(value) => {
                    assert!(record.version > before, "records of a key come in order");
                    let text = String::from_utf8(value.to_vec()).unwrap();
                    self.0.insert(record.key, (record.version, text));
                }
                None => drop(self.0.remove(&record.key)),
            }
        }
        false
    }

    fn values(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(key, (_, value))| (&**key, &**value)).collect()
    }
}

async fn caught_up(log: &dyn EventLog) -> (Box<dyn ControlReader>, Seen) {
    let mut reader = within("a reader", log.control()).await.unwrap();
    let mut seen = Seen::default();
    while !seen.take(within("the end", reader.next()).await.unwrap()) {}
    (reader, seen)
}

async fn put(log: &dyn EventLog, key: &str, value: &str, expected: Expected) -> Result<u64, PutError> {
    let value = (!value.is_empty()).then(|| value.to_owned().into());
    within("a write", log.put_control(ControlPut { key: key.into(), value, expected })).await
}

pub(super) async fn a_log_without_orders_is_read_at_once(factory: &dyn LogFactory) {
    let log = factory.open().await;
    assert_eq!(caught_up(&*log).await.1, Seen::default());
}

pub(super) async fn a_write_is_seen_by_readers_and_by_those_that_come_later(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let (mut reader, mut seen) = caught_up(&*log).await;
    let first = put(&*log, "a", "1", Expected::Absent).await.unwrap();
    let second = put(&*log, "a", "2", Expected::Version(first)).await.unwrap();
    put(&*log, "b", "1", Expected::Any).await.unwrap();
    assert!(second > first);
    while seen.values() != [("a", "2"), ("b", "1")] {
        seen.take(within("the writes", reader.next()).await.unwrap());
    }
    assert_eq!(seen.0["a"].0, second, "a record has the version that the writer was told");
    assert_eq!(caught_up(&*log).await.1, seen);
    drop(reader);
    let log = factory.reopen(log).await;
    assert_eq!(caught_up(&*log).await.1, seen, "after a restart");
}

pub(super) async fn a_key_that_is_forgotten_is_absent_and_its_version_never_comes_again(
    factory: &dyn LogFactory,
) {
    let log = factory.open().await;
    let (mut reader, mut seen) = caught_up(&*log).await;
    let first = put(&*log, "a", "1", Expected::Any).await.unwrap();
    put(&*log, "a", "", Expected::Version(first)).await.unwrap();
    assert_eq!(caught_up(&*log).await.1, Seen::default());
    let again = put(&*log, "a", "2", Expected::Absent).await.unwrap();
    assert!(again > first);
    let late = put(&*log, "a", "3", Expected::Version(first)).await;
    assert_eq!(late, Err(PutError::Conflict { current: Some(again) }));
    while seen.values() != [("a", "2")] {
        seen.take(within("the last write", reader.next()).await.unwrap());
    }
}

pub(super) async fn a_write_that_expects_something_else_changes_nothing(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let none = put(&*log, "a", "1", Expected::Version(7)).await;
    assert_eq!(none, Err(PutError::Conflict { current: None }));
    let version = put(&*log, "a", "1", Expected::Any).await.unwrap();
    let current = Some(version);
    let refused = Err(PutError::Conflict { current });
    assert_eq!(put(&*log, "a", "2", Expected::Absent).await, refused);
    assert_eq!(put(&*log, "a", "2", Expected::Version(version + 100)).await, refused);
    assert_eq!(put(&*log, "a", "", Expected::Absent).await, refused);
    assert_eq!(caught_up(&*log).await.1.values(), [("a", "1")]);
}

pub(super) async fn of_rivals_that_expect_the_same_one_wins(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let mut version = put(&*log, "a", "start", Expected::Any).await.unwrap();
    for round in 0..5 {
        let names = ["one", "two", "three"].map(|name| format!("{name}-{round}"));
        let expected = Expected::Version(version);
        let outcomes = tokio::join!(
            put(&*log, "a", &names[0], expected),
            put(&*log, "a", &names[1], expected),
            put(&*log, "a", &names[2], expected),
        );
        let outcomes = [outcomes.0, outcomes.1, outcomes.2];
        let won: Vec<_> = (0..3).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        version = outcomes[won[0]].clone().unwrap();
        let seen = caught_up(&*log).await.1;
        assert_eq!(seen.values(), [("a", &*names[won[0]])]);
        for lost in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(lost, PutError::Conflict { current: Some(version) });
        }
    }
}
