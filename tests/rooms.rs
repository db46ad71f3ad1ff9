//! More rooms than there may be: those silent the longest are forgotten, everywhere, and nobody's reactions count twice or not
//! at all.

use crate::{
    audit::audit,
    end_to_end::until_total,
    harness::{
        http,
        process::{Plan, Uproar},
        wait::until,
    },
};

/// One partition, so that it is known which rooms go.
const FEW: [&str; 2] = ["log.partitions=1", "aggregator.max_rooms=4"];

async fn react(uproar: &Uproar, room: &str) {
    assert_eq!(http::react(&uproar.http, room, r#"{"reactions":{"🔥":8,"👏":1}}"#).await, 202);
    until_total(&uproar.http, room, 9).await;
}

#[tokio::test]
async fn names_that_strangers_make_up_drive_out_silent_rooms_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20");
    let mut uproar = FEW.iter().fold(plan, |plan, set| plan.set(*set)).start().await;
    let names: Vec<_> = (0..12).map(|n| format!("made-up-{n}")).collect();
    for name in &names {
        react(&uproar, name).await;
    }
    let forgotten = "uproar_aggregator_forgotten_rooms_total{cause=\"too_many\"}";
    until("silent rooms to go", async || (uproar.metric(forgotten).await == 8.0).then_some(())).await;
    assert_eq!(uproar.metric("uproar_aggregator_rooms").await, 4.0);
    let snapshot =
        async |name: &str| Some(http::get(&uproar.http, &format!("/v1/rooms/{name}")).await?.status);
    for name in &names[..8] {
        until("its snapshot to go", async || (snapshot(name).await? == 404).then_some(())).await;
    }
    for name in &names[8..] {
        assert_eq!(snapshot(name).await, Some(200), "{name}");
    }
    // It begins anew: 9, and not 18.
    react(&uproar, &names[0]).await;
    until("the next one to go", async || (uproar.metric(forgotten).await == 9.0).then_some(())).await;
    // What is forgotten is no window, though it goes into the log the same way.
    let windows = ["uproar_aggregator_windows_total", "uproar_aggregator_window_delay_seconds_count"];
    until("no more windows", async || {
        let [all, timed] = [uproar.metric(windows[0]).await, uproar.metric(windows[1]).await];
        (all == timed).then_some(())
    })
    .await;
    uproar.stop();

    let dir = format!("log.embedded.dir={}", dir.path().join("data").display());
    let mut sets = vec![dir, FEW[0].to_owned()];
    let said = audit(&sets, &[]).await;
    assert_eq!(said.code, Some(1), "where so many may be, some are missing: {}", said.out);
    sets.push(FEW[1].to_owned());
    let said = audit(&sets, &["--json"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let [reborn, gone] = [&names[0], &names[1]].map(|name| said.room(name));
    assert_eq!([&reborn["total"], &reborn["bygone"], &gone["bygone"]], [9; 3]);
}
