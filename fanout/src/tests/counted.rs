//! What happens is counted.

use super::{
    harness::{PATIENCE, Stage, aggregate, config, large_aggregate, recorded},
    live::Client,
};
use crate::Config;
use futures_util::SinkExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// The value of a metric as it is rendered.
pub(crate) fn value(handle: &PrometheusHandle, name: &str) -> f64 {
    let text = handle.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn deliveries_and_closes_are_counted_by_cause() {
    let (handle, _recording) = recorded();
    let mut stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    stage.log.aggregate(&aggregate("final", 1)).await;
    stage.log.commit("final", Some("alien".into())).await;
    let (mut loud, mut leaver) =
        (Client::connect(&stage, "final").await, Client::connect(&stage, "final").await);
    for viewer in [&mut loud, &mut leaver] {
        viewer.hello().await;
        viewer.frame().await;
    }
    assert_eq!(value(&handle, "uproar_fanout_viewers{protocol=\"websocket\"}"), 2.0);
    loud.0.send(Message::binary("hi")).await.unwrap();
    assert_eq!(loud.close_code().await, 1008);
    drop((loud, leaver));
    stage.until_viewers(0).await;
    let mut last = Client::connect(&stage, "final").await;
    last.hello().await;
    last.frame().await;
    stage.show(&aggregate("final", 2)).await;
    last.frame().await;
    let mut polite = Client::connect(&stage, "final").await;
    polite.hello().await;
    polite.frame().await;
    polite.0.close(None).await.unwrap();
    stage.until_viewers(1).await;
    stage.shutdown.cancel();
    assert_eq!(last.close_code().await, 1012);
    drop(last);
    stage.ended().await.unwrap();
    for (name, expected) in [
        ("uproar_fanout_viewers{protocol=\"websocket\"}", 0.0),
        ("uproar_fanout_rooms", 1.0),
        ("uproar_fanout_frames_published_total", 2.0),
        ("uproar_fanout_stale_aggregates_total", 1.0),
        ("uproar_fanout_alien_aggregates_total", 1.0),
        ("uproar_fanout_deliveries_total{protocol=\"websocket\"}", 5.0),
        ("uproar_fanout_frames_skipped_total{protocol=\"websocket\"}", 0.0),
        ("uproar_fanout_closes_total{cause=\"spoke\"}", 1.0),
        ("uproar_fanout_closes_total{cause=\"gone\"}", 2.0),
        ("uproar_fanout_closes_total{cause=\"drained\"}", 1.0),
        ("uproar_fanout_frame_age_seconds_count", 2.0),
    ] {
        assert_eq!(value(&handle, name), expected, "{name}");
    }
}

#[tokio::test]
async fn frames_that_a_slow_viewer_never_got_are_counted() {
    let (handle, _recording) = recorded();
    let mut config = config();
    config.top_n = 1_000;
    let stage = Stage::start(config).await;
    let mut slow = Client::connect_small(&stage, "final").await;
    const FRAMES: u64 = 150;
    for seq in 1..=FRAMES {
        stage.show(&large_aggregate("final", seq)).await;
    }
    slow.hello().await;
    let (first, mut seen) = (slow.frame().await.seq, 1);
    while slow.frame().await.seq < FRAMES {
        seen += 1;
    }
    seen += 1;
    let counted =
        |name: &str| value(&handle, &format!("uproar_fanout_{name}_total{{protocol=\"websocket\"}}"));
    stage.until(|_| counted("deliveries") == f64::from(seen)).await;
    assert_eq!(counted("frames_skipped"), (FRAMES - first + 1) as f64 - f64::from(seen));
}

#[tokio::test]
async fn who_takes_nothing_is_counted_as_stalled_also_where_the_kernel_gives_up_first() {
    let (handle, _recording) = recorded();
    let stage = Stage::start(Config { top_n: 1_000, write_timeout_ms: 50, ..config() }).await;
    let mut stuck = Client::connect_small(&stage, "final").await;
    stuck.hello().await;
    // Its socket keeps the time that it was given.
    stage.reload(|config| config.write_timeout_ms = 600_000);
    let start = Instant::now();
    for seq in 1.. {
        stage.show(&large_aggregate("final", seq)).await;
        if *stage.registry().viewers().borrow() == 0 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it is still there");
    }
    assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"stalled\"}"), 1.0);
    assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"gone\"}"), 0.0);
}

#[tokio::test]
async fn viewers_that_are_sent_away_at_a_stop_are_counted() {
    let (handle, _recording) = recorded();
    let mut stage = Stage::start(config()).await;
    for _ in 0..3 {
        Client::connect(&stage, "final").await.hello().await;
    }
    let mut viewers = [Client::connect(&stage, "final").await, Client::connect(&stage, "final").await];
    for viewer in &mut viewers {
        viewer.hello().await;
    }
    stage.until_viewers(2).await;
    stage.routes.edge.stop();
    stage.ended().await.unwrap_err();
    assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"drained\"}"), 2.0);
    assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"gone\"}"), 3.0);
}
