//! Tests of the table and of the verdict.

use super::*;

fn quantiles(p50_us: u64, max_us: u64) -> Option<Quantiles> {
    Some(Quantiles { samples: 3, p50_us, p90_us: max_us, p99_us: max_us, p999_us: max_us, max_us })
}

fn row(server: &str) -> Row {
    Row {
        server: server.to_owned(),
        processes: 1,
        viewers_asked: 10_000,
        viewers: 10_000,
        frame_bytes: Some(300),
        connects_per_s: Some(20_800.4),
        rss_before_kib: Some(2_000),
        rss_idle_kib: Some(11_900),
        rss_start_kib: Some(12_000),
        rss_end_kib: Some(12_400),
        tcp_start_kib: Some(1_024),
        tcp_end_kib: Some(3_072),
        cpu_ms: Some(2_790),
        figures: Figures {
            deliveries: 300_000,
            missed: 0,
            first: quantiles(400, 900),
            last: quantiles(66_100, 82_000),
            spread: quantiles(65_000, 81_000),
        },
        ..Row::default()
    }
}

fn report(servers: Vec<Row>, not_measured: Vec<NotMeasured>) -> Report {
    let conditions = Conditions::of(&crate::edge::cli::tests::plan("").unwrap());
    Report::new(conditions, servers, not_measured)
}

fn absent(skipped: bool) -> NotMeasured {
    NotMeasured { server: "mosquitto".to_owned(), why: "not installed".to_owned(), skipped }
}

#[test]
fn each_server_has_a_line_with_its_figures() {
    let text = report(vec![row("floor"), row("mosquitto")], vec![]).to_text();
    let line = text.lines().find(|line| line.starts_with("floor")).unwrap();
    let cells: Vec<_> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let expected =
        ["floor", "10000", "300", "0.99", "1.04", "20800", "9.3", "0.4 / 0.9", "66 / 82", "65 / 81", "0"];
    assert_eq!(cells, expected);
    let widths: Vec<_> = text.lines().skip(1).take(4).map(str::len).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}\n{text}");
    assert!(text.ends_with("EDGE clean: nothing missed"), "{text}");
}

#[test]
fn what_was_not_measured_has_dashes() {
    let unseen =
        Row { server: "mqtt://far:1883/t".to_owned(), viewers: 5, viewers_asked: 5, ..Row::default() };
    let cells = unseen.cells();
    assert_eq!(cells[2..10], ["-"; 8]);
}

#[test]
fn a_server_that_misses_frames_or_keeps_viewers_out_is_not_clean() {
    let mut missing = row("a");
    missing.figures.missed = 1;
    let full = Row { viewers: 9_000, trouble: Some("closed by the server".to_owned()), ..row("b") };
    let confused = Row { odd: 2, ..row("c") };
    for spoiled in [missing, full, confused] {
        let report = report(vec![row("floor"), spoiled], vec![]);
        assert!(!report.clean && report.to_text().ends_with("EDGE NOT CLEAN"));
    }
    let full = Row { viewers: 9_000, trouble: Some("closed by the server".to_owned()), ..row("b") };
    let text = report(vec![full], vec![]).to_text();
    assert!(text.contains("b: 1000 of 10000 viewers were not let in (last: closed by the server)"), "{text}");
}

#[test]
fn frames_that_never_came_are_said_and_not_clean() {
    let quiet = Row { frames_asked: 3, frames: 1, ..row("mqtt://a:1883/reactions/r") };
    let report = report(vec![quiet], vec![]);
    let text = report.to_text();
    assert!(text.contains("reactions/r: only 1 of 3 frames came: does anybody post to the room?"), "{text}");
    assert!(!report.clean, "{text}");
}

#[test]
fn a_server_that_is_absent_counts_only_when_it_was_named() {
    assert!(report(vec![row("floor")], vec![absent(true)]).clean);
    assert!(!report(vec![row("floor")], vec![absent(false)]).clean);
    assert!(!report(vec![], vec![absent(true)]).clean, "nothing at all was measured");
    let text = report(vec![row("floor")], vec![absent(true)]).to_text();
    assert!(text.contains("mosquitto was skipped: not installed"), "{text}");
}

#[test]
fn silent_viewers_are_reported_by_what_they_cost() {
    let text = report(vec![Row { silent: 200, ..row("floor") }], vec![]).to_text();
    assert!(text.contains("200 silent viewers beside them"), "{text}");
    assert!(text.contains("RSS +0.4 MiB, kernel's TCP memory +2.0 MiB"), "{text}");
}

#[test]
fn silent_viewers_who_are_not_let_in_are_said_and_not_clean() {
    let silent = |silent| Row { silent_asked: 20, silent, trouble: Some("full".to_owned()), ..row("uproar") };
    assert!(report(vec![silent(20)], vec![]).clean);
    let report = report(vec![silent(5)], vec![]);
    assert!(!report.clean);
    assert!(
        report.to_text().contains("15 of 20 silent viewers were not let in (last: full)"),
        "{}",
        report.to_text()
    );
}
