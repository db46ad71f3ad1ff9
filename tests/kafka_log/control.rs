//! Orders on real brokers: the contract, and rivals in processes of their own.

use super::*;
use eventlog::{ControlPut, Expected, PutError};

#[tokio::test(flavor = "multi_thread")]
async fn the_kafka_log_keeps_the_contract_of_orders() {
    let Some(cluster) = shared() else { return };
    eventlog::conformance::run_control(&Factory { cluster, newest: Mutex::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rivals_in_several_processes_one_wins_each_round() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("rivals"), 1);
    // Each has a client of its own, as another process has.
    let logs = [open(&config).await, open(&config).await, open(&config).await];
    let mut expected = Expected::Absent;
    for round in 0..5 {
        let puts = logs.iter().enumerate().map(|(rival, log)| {
            let value = Some(format!("{rival} in {round}").into());
            log.put_control(ControlPut { key: "a".into(), value, expected })
        });
        let outcomes = futures_util::future::join_all(puts).await;
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {outcomes:?}");
        let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        for error in lost {
            assert_eq!(*error, PutError::Conflict { current: Some(*won[0]) }, "round {round}");
        }
        expected = Expected::Version(*won[0]);
    }
}
