//! Windows with more rooms than a transaction has time for.

use super::{config, member::Member, open, unused_name};
use crate::harness::kafka::shared;
use eventlog::CommitError;

/// More than the brokers take in the two seconds that a transaction has here.
const TOO_MANY: u32 = 2_000_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "depends on how fast the brokers are: docs/testing.md has the command"]
async fn a_window_that_does_not_fit_its_transaction_says_so_and_what_to_do() {
    let Some(cluster) = shared() else { return };
    let mut config = config(cluster.bootstrap(), &unused_name("large"), 1);
    config.kafka.transaction_timeout_ms = 2_000;
    let log = open(&config).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(1).await;
    let mut attempts = 0;
    let why = loop {
        attempts += 1;
        match member.feed.committer.commit(member.cuts(TOO_MANY, 1)).await {
            Err(CommitError::Retry(why)) => break why,
            // Brokers that are slow to take the abort end the transaction themselves.
            Err(CommitError::Reopen(_)) if attempts < 5 => {
                member.leave().await;
                member = Member::join(&*log).await;
                member.until_owned(1).await;
            }
            outcome => panic!("{outcome:?}"),
        }
    };
    let first =
        format!("a window of {TOO_MANY} records does not fit log.kafka.transaction_timeout_ms = 2000");
    for part in [&*first, "log.kafka.session_timeout_ms", "docs/operations.md"] {
        assert!(why.contains(part), "{why}");
    }
    member.feed.committer.commit(member.cuts(10, 2)).await.unwrap();
    member.leave().await;
    let mut next = Member::join(&*log).await;
    next.until_owned(1).await;
    assert_eq!(next.owned[&0].newest.len(), 10, "nothing of the large window was written");
    next.leave().await;
}
