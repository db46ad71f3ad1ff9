//! What the report looks like, for people and for programs.

use super::*;

fn report() -> Report {
    let figures = Quantiles {
        samples: 9,
        p50_us: 8_040,
        p90_us: 12_000,
        p99_us: 20_500,
        p999_us: 30_000,
        max_us: 31_000,
    };
    Report {
        scenario: "crowd",
        settings: Settings {
            url: "http://a:1".to_owned(),
            live_url: "http://b:2".to_owned(),
            mqtt: "c:3".to_owned(),
            room: "final".to_owned(),
            rate_per_s: 2_000,
            duration_ms: 60_000,
            warm_up_ms: 2_000,
            timeout_ms: 10_000,
            settle_ms: 15_000,
            connections: 64,
            reactions: vec!["🔥".to_owned()],
            count: 1,
            batch: None,
        },
        posts: Posts {
            planned: 120_000,
            sent: 119_990,
            not_sent: 10,
            by_status: [(202, 119_980), (503, 9)].into(),
            timeouts: 1,
            broken: 0,
            connect_errors: 0,
            odd_answers: 0,
            first_error: Some("503: full".to_owned()),
            latency_from_schedule: Some(figures),
            latency_from_send: None,
        },
        viewers: vec![Viewers {
            protocol: "mqtt",
            asked: 50,
            connected: 49,
            frames: 1_500,
            skips: 2,
            missed: 0,
            reconnects: 1,
            broken: 0,
            ahead: 0,
            delay: Some(figures),
        }],
        audit: verdict(),
    }
}

fn verdict() -> Verdict {
    Verdict {
        clean: true,
        accepted: 120_000,
        unknown: 0,
        counted: Some(120_000),
        baseline: 0,
        viewers_right: 100,
        viewers: 100,
        snapshot_right: true,
        findings: vec![],
        remarks: vec![],
    }
}

#[test]
fn the_tables_are_aligned_and_say_it_all() {
    let expected = "
2000 POST/s for 60s over 64 connections into room final

posts  planned    sent  not sent     202  503  timeout
        120000  119990        10  119980    9        1
first error: 503: full

latency of 202, ms  p50   p90   p99   max
from schedule       8.0  12.0  20.5  31.0
from send             -     -     -     -

viewers  asked  connected  frames  skips  missed  reconnects  broken  delay p50, ms   p90   p99   max
mqtt        50         49    1500      2       0           1       0            8.0  12.0  20.5  31.0

AUDIT clean: accepted 120000 == counted 120000, seen by 100 of 100 viewers";
    assert_eq!(report().to_text(), expected);
}

#[test]
fn an_audit_with_unknown_outcomes_says_how_many() {
    let verdict = Verdict { unknown: 7, counted: Some(120_003), ..verdict() };
    assert_eq!(
        verdict.to_text(),
        "AUDIT clean: accepted 120000 (+ 7 unknown) ~ counted 120003, seen by 100 of 100 viewers"
    );
}

#[test]
fn an_audit_that_failed_says_what_differs() {
    let verdict = Verdict {
        clean: false,
        counted: None,
        viewers_right: 99,
        findings: vec!["reactions: mqtt 1 counted 99, 1 too few".to_owned()],
        remarks: vec!["not at rest".to_owned()],
        ..verdict()
    };
    assert_eq!(
        verdict.to_text(),
        "AUDIT NOT CLEAN: accepted 120000 vs no agreed figure, seen by 99 of 100 viewers\n  \
         - reactions: mqtt 1 counted 99, 1 too few\n  (remark) not at rest"
    );
}

#[test]
fn the_saved_report_is_json_with_units_in_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    hand_out("", &report(), Some(&path), false).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(saved["posts"]["by_status"]["503"], 9);
    assert_eq!(saved["posts"]["latency_from_schedule"]["p99_us"], 20_500);
    assert_eq!(saved["posts"]["latency_from_send"], serde_json::Value::Null);
    assert_eq!(saved["viewers"][0]["delay"]["samples"], 9);
    assert_eq!(saved["audit"]["clean"], true);
    assert_eq!(saved["settings"]["duration_ms"], 60_000);
}

#[test]
fn a_report_that_cannot_be_saved_says_where() {
    let error = hand_out("", &report(), Some(Path::new("/no/such/folder/report.json")), false).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"));
}
