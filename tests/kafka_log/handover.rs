//! Partitions that go from one member to another: by joining and leaving, by death, by sleep.

use super::{append_some, config, instance, member::Member, open, unused_name};
use crate::harness::kafka::{Cluster, shared};
use bytes::Bytes;
use eventlog::CommitError;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_second_member_takes_half_and_gives_it_back_and_the_first_keeps_the_rest() {
    let Some(cluster) = shared() else { return };
    let mut config = config(cluster.bootstrap(), &unused_name("sticky"), 4);
    (config.kafka.session_timeout_ms, config.kafka.transaction_timeout_ms) = (40_000, 40_000);
    let (one, two) = (open(&config).await, open(&instance(&config, "two")).await);
    let mut first = Member::join(&*one).await;
    first.until_owned(4).await;
    first.feed.committer.commit(first.cuts(1, 1)).await.unwrap();
    let epochs: BTreeMap<u32, u64> =
        first.owned.iter().map(|(partition, owned)| (*partition, owned.epoch)).collect();

    let mut second = Member::join(&*two).await;
    let shared = async {
        tokio::join!(first.until("two to be left", |m| m.owned.len() == 2), second.until_owned(2));
    };
    shared.await;
    assert_eq!(first.revoked.len(), 2, "those that stay are never revoked");
    assert!(
        first.owned.iter().all(|(partition, owned)| epochs[partition] == owned.epoch),
        "nor assigned again"
    );
    assert!(second.owned.values().all(|owned| owned.newest[0].seq == 1), "the state came with the partition");
    let (ours, theirs) = (first.cuts(1, 2), second.cuts(1, 2));
    let (ours, theirs) =
        tokio::join!(first.feed.committer.commit(ours), second.feed.committer.commit(theirs));
    assert!(ours.is_ok() && theirs.is_ok(), "{ours:?} {theirs:?}");

    let left = Instant::now();
    let member = second.feed.events.close(Duration::from_secs(10));
    tokio::join!(first.until_owned(4), member);
    let session = Duration::from_millis(u64::from(config.kafka.session_timeout_ms));
    assert!(left.elapsed() < session / 2, "who leaves is not waited for: {:?}", left.elapsed());
    assert!(first.owned.values().all(|owned| owned.newest.is_empty() || owned.newest[0].seq <= 2));
    first.leave().await;
}

#[tokio::test]
async fn a_partition_that_left_a_member_that_did_not_ask_is_read_when_it_comes_back() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("paused"), 2);
    let (one, two) = (open(&config).await, open(&instance(&config, "two")).await);
    let mut first = Member::join(&*one).await;
    first.until_owned(2).await;
    // Each an event, and more than may wait for somebody who asks: both partitions are paused.
    let writer = one.writer().await.unwrap();
    for n in 0..200 {
        writer.append(n % 2, Bytes::from(n.to_string())).await.unwrap();
    }
    let mut second = Member::join(&*two).await;
    second.until_owned(1).await;
    let left = *second.owned.keys().next().unwrap();
    first.until("it to be gone", |member| !member.owned.contains_key(&left)).await;
    let member = second.feed.events.close(Duration::from_secs(10));
    tokio::join!(first.until_owned(2), member);
    writer.append(left, Bytes::from_static(b"after")).await.unwrap();
    let is_read = |member: &Member| member.owned[&left].values.iter().any(|(_, value)| value == "after");
    first.until("what came after", is_read).await;
    first.leave().await;
}

#[tokio::test]
async fn a_producer_with_the_same_instance_id_fences_the_one_before() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("twins"), 2);
    let (one, twin) = (open(&config).await, open(&config).await);
    let mut first = Member::join(&*one).await;
    first.until_owned(2).await;
    first.feed.committer.commit(first.cuts(1, 1)).await.unwrap();
    let second = Member::join(&*twin).await;
    let outcome = first.feed.committer.commit(first.cuts(1, 2)).await;
    assert!(matches!(outcome, Err(CommitError::Reopen(_) | CommitError::Revoked(_))), "{outcome:?}");
    first.leave().await;
    second.leave().await;
}

/// Commits as fast as it can, one offset a time, until it is killed. Says each outcome.
#[tokio::test]
#[ignore = "it is run by other tests, in a process of its own"]
async fn a_member_of_its_own() {
    let Ok(told) = std::env::var("UPROAR_TEST_MEMBER") else { return };
    let [bootstrap, name]: [&str; 2] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let log = open(&instance(&config(bootstrap, name, 2), "child")).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(2).await;
    // Records of one partition may have come before the other was there.
    member.owned.values_mut().for_each(|owned| owned.next_offset = owned.start);
    for seq in 1.. {
        let outcome = match member.feed.committer.commit(member.cuts(20, seq)).await {
            Ok(()) => "ok",
            Err(CommitError::Retry(_)) => "retry",
            Err(CommitError::Revoked(_)) => "revoked",
            Err(CommitError::Reopen(_)) => "reopen",
        };
        println!("member: {outcome}");
        if outcome == "reopen" || outcome == "revoked" {
            return;
        }
        for owned in member.owned.values_mut().filter(|_| outcome == "ok") {
            owned.next_offset += 1;
        }
    }
}

/// Starts the test above in a process of its own, and waits for its first commit.
fn start_member(cluster: &Cluster, name: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let path = concat!(module_path!(), "::a_member_of_its_own").split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([path, "--exact", "--ignored", "--nocapture"])
        .env("UPROAR_TEST_MEMBER", format!("{} {name}", cluster.bootstrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut outcomes = lines.filter_map(|line| Some(line.split_once("member: ")?.1.to_owned()));
    assert_eq!(outcomes.next().as_deref(), Some("ok"));
    (child, outcomes)
}

/// Returns when a member that is silent has lost its partitions.
pub(super) async fn one_session(cluster: &Cluster) {
    let name = unused_name("silent");
    let log = open(&config(cluster.bootstrap(), &name, 2)).await;
    append_some(&*log, 5_000).await;
    let (mut child, _outcomes) = tokio::task::block_in_place(|| start_member(cluster, &name));
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let mut next = Member::join(&*log).await;
    next.until_owned(2).await;
    next.leave().await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_in_the_middle_of_a_commit_leaves_offsets_and_aggregates_that_agree() {
    let Some(cluster) = shared() else { return };
    let name = unused_name("killed");
    let config = config(cluster.bootstrap(), &name, 2);
    let log = open(&config).await;
    append_some(&*log, 5_000).await;
    let mut reached = BTreeMap::new();
    for round in 0..4u64 {
        let (mut child, mut outcomes) = start_member(cluster, &name);
        tokio::task::block_in_place(|| {
            assert!(outcomes.nth(20).is_some());
            // Not a wait: each round kills it at another moment of the next commit.
            std::thread::sleep(Duration::from_millis(5 * round));
            child.kill().unwrap();
        });
        child.wait().unwrap();
        let killed = Instant::now();
        let mut next = Member::join(&*log).await;
        next.until_owned(2).await;
        println!("round {round}: taken over after {:?}", killed.elapsed());
        for (partition, owned) in &next.owned {
            assert_eq!(owned.newest.len(), 20);
            let seqs: BTreeSet<u64> = owned.newest.iter().map(|aggregate| aggregate.seq).collect();
            assert_eq!(seqs.len(), 1, "all rooms of a window, or none");
            let to = owned.newest[0].source.to;
            assert_eq!(to, owned.start, "partition {partition}: the offset of the window that is the newest");
            assert!(reached.insert(*partition, to) <= Some(to), "commits are never taken back");
        }
        next.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_slept_through_the_loss_of_its_partitions_commits_nothing() {
    let Some(cluster) = shared() else { return };
    let name = unused_name("zombie");
    let log = open(&config(cluster.bootstrap(), &name, 2)).await;
    append_some(&*log, 5_000).await;
    let (mut child, mut outcomes) = start_member(cluster, &name);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let mut next = Member::join(&*log).await;
    next.until_owned(2).await;
    next.feed.committer.commit(next.cuts(20, 1_000_000)).await.unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let last =
        tokio::task::spawn_blocking(move || outcomes.find(|outcome| outcome != "ok" && outcome != "retry"));
    let last = last.await.unwrap();
    assert!(matches!(last.as_deref(), Some("revoked" | "reopen")), "{last:?}");
    child.wait().unwrap();
    next.leave().await;
    let mut check = Member::join(&*log).await;
    check.until_owned(2).await;
    for owned in check.owned.values() {
        assert!(owned.newest.iter().all(|aggregate| aggregate.seq == 1_000_000), "the sleeper wrote");
    }
    check.leave().await;
}
