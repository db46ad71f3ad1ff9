//! The tables that people read, one for each mode.

use super::figures::Row;
use crate::{report::table, spread::Quantiles};

/// Servers beside each other, under a closed loop.
pub(crate) fn compare(rows: &[Row]) -> String {
    let head = [
        [
            "server",
            "body",
            "rooms",
            "conn.",
            "answers",
            "CPU s / 1M",
            "user / sys",
            "to bare, median",
            "POST, ms",
            "not 202",
            "RSS",
            "poster us",
        ],
        ["", "", "", "", "/ s", "POSTs", "", "(least..most)", "p50 / p99", "", "MiB", "user / sys"],
    ];
    let cells = |row: &Row| {
        [
            format!("{:.0}", row.answers_per_s),
            number(row.cpu_s_per_million),
            format!("{} / {}", number(row.cpu_user_s_per_million), number(row.cpu_system_s_per_million)),
            ratio(row),
            times(row.from_send, |q| vec![q.p50_us, q.p99_us]),
            statuses(row),
            mib(row.rss_after_kib),
            format!("{:.1} / {:.1}", row.poster_user_us, row.poster_system_us),
        ]
        .to_vec()
    };
    all(&head, rows, cells)
}

/// How long a POST takes at which rate.
pub(crate) fn curve(rows: &[Row]) -> String {
    let head = [
        [
            "server",
            "body",
            "rooms",
            "conn.",
            "due / s",
            "202 / s",
            "from schedule, ms",
            "from send, ms",
            "not sent",
            "not 202",
            "CPU s / 1M",
            "to bare",
        ],
        ["", "", "", "", "", "", "p50 / p90 / p99 / p99.9 / max", "p50 / p99", "", "", "POSTs", ""],
    ];
    let cells = |row: &Row| {
        [
            row.rate_per_s.map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
            format!("{:.0}", row.accepted_per_s),
            // What a user would have felt: in full.
            times(row.from_schedule, |q| vec![q.p50_us, q.p90_us, q.p99_us, q.p999_us, q.max_us]),
            times(row.from_send, |q| vec![q.p50_us, q.p99_us]),
            row.not_sent.to_string(),
            statuses(row),
            number(row.cpu_s_per_million),
            ratio(row),
        ]
        .to_vec()
    };
    all(&head, rows, cells)
}

/// What becomes of more than there is capacity for.
pub(crate) fn overload(rows: &[Row]) -> String {
    let head = [
        [
            "server",
            "body",
            "rooms",
            "conn.",
            "load",
            "due / s",
            "202 / s",
            "refused / s",
            "not sent",
            "202, ms",
            "refused, ms",
            "RSS MiB",
        ],
        ["", "", "", "", "", "", "", "by status", "/ s", "p50 / p99", "p50 / p99", "before / after"],
    ];
    let cells = |row: &Row| {
        let two = |q: &Quantiles| vec![q.p50_us, q.p99_us];
        let refused: Vec<_> =
            row.refused_per_s.iter().map(|(status, n)| format!("{status}: {n:.0}")).collect();
        [
            row.load.clone(),
            row.rate_per_s.map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
            format!("{:.0}", row.accepted_per_s),
            if refused.is_empty() { "0".to_owned() } else { refused.join(" ") },
            format!("{:.0}", row.not_sent_per_s),
            times(row.from_send, two),
            times(row.refused_from_send, two),
            format!("{} / {}", mib(row.rss_before_kib), mib(row.rss_after_kib)),
        ]
        .to_vec()
    };
    all(&head, rows, cells)
}

fn all<const N: usize>(head: &[[&str; N]], rows: &[Row], cells: impl Fn(&Row) -> Vec<String>) -> String {
    let head = head.iter().map(|line| line.map(str::to_owned).to_vec());
    // What was measured comes first in each table.
    let subject = |row: &Row| {
        let case = &row.case;
        vec![
            row.server.clone(),
            case.body.name().to_owned(),
            case.rooms.to_string(),
            case.connections.to_string(),
        ]
    };
    let rows = rows.iter().map(|row| [subject(row), cells(row)].concat());
    table(&head.chain(rows).collect::<Vec<_>>())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// A single round has no extremes.
fn ratio(row: &Row) -> String {
    let text = row.to_bare.map(|r| match row.rounds.len() {
        1 => format!("{:.2}", r.median),
        _ => format!("{:.2} ({:.2}..{:.2})", r.median, r.least, r.most),
    });
    text.unwrap_or_else(|| "-".to_owned())
}

fn mib(kib: Option<u64>) -> String {
    number(kib.map(|kib| kib as f64 / 1024.0))
}

fn times(quantiles: Option<Quantiles>, of: impl Fn(&Quantiles) -> Vec<u64>) -> String {
    let ms = |us: &u64| match us {
        ..1_000 => format!("{:.2}", *us as f64 / 1e3),
        ..10_000 => format!("{:.1}", *us as f64 / 1e3),
        _ => format!("{:.0}", *us as f64 / 1e3),
    };
    let text = quantiles.map(|q| of(&q).iter().map(ms).collect::<Vec<_>>().join(" / "));
    text.unwrap_or_else(|| "-".to_owned())
}

fn statuses(row: &Row) -> String {
    let all: Vec<_> = row.refused.iter().map(|(status, n)| format!("{status}: {n}")).collect();
    if all.is_empty() { "0".to_owned() } else { all.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            figures::tests::{CASE, round},
            plan::Load,
        },
        *,
    };

    #[test]
    fn the_comparison_shows_each_server_beside_the_bare_one() {
        let bare = Row::of("bare", CASE, "closed", Load::Closed, &[round(202, 1_000, 10, 10)]);
        let mut own = Row::of("uproar", CASE, "closed", Load::Closed, &[round(202, 1_000, 20, 10)]);
        own.compare(&bare.rounds);
        let text = compare(&[bare, own]);
        let line = text.lines().last().unwrap();
        for cell in ["uproar", "tap", "64", "500", "30.0", "20.0 / 10.0", "1.50", "2.0 / 2.0", "8.0"] {
            assert!(line.contains(cell), "{cell}: {line}");
        }
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn the_curve_shows_how_late_the_last_of_a_thousand_are() {
        let mut row = Row::of("s", CASE, "600", Load::Open(600), &[round(202, 1_000, 1, 1)]);
        row.from_schedule = Some(Quantiles {
            samples: 1_000,
            p50_us: 2_600,
            p90_us: 3_500,
            p99_us: 4_700,
            p999_us: 14_000,
            max_us: 23_000,
        });
        let text = curve(&[row]);
        assert!(text.contains("p50 / p90 / p99 / p99.9 / max"), "{text}");
        assert!(text.contains("2.6 / 3.5 / 4.7 / 14 / 23      2.0 / 2.0  "), "{text}");
    }

    #[test]
    fn refusals_are_shown_by_status() {
        let row =
            Row::of("s", CASE, "2x", Load::Open(600), &[round(202, 1_000, 1, 1), round(503, 200, 1, 1)]);
        assert!(overload(&[row]).contains("503: 50"), "200 in the 4 s of both rounds");
        let row = Row::of("s", CASE, "600", Load::Open(600), &[round(503, 200, 1, 1)]);
        assert!(curve(&[row]).contains("503: 200"));
    }
}
