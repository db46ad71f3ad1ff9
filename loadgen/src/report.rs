//! What a run found out: as JSON for programs, as tables for people.

use crate::{
    audit::Verdict,
    clock::now_us,
    crowd::{Gallery, Plan},
    post::Poster,
    schedule::Schedule,
    spread::Quantiles,
};
use anyhow::Context as _;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

/// The version of the JSON. It grows when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// The commit that this program was built from (build.rs).
const COMMIT: &str = env!("LOADGEN_COMMIT");

/// What tells one report from another. Part of the report of every scenario.
#[derive(Debug, Serialize)]
struct Header {
    schema: u32,
    version: &'static str,
    commit: &'static str,
    command: String,
    finished_unix_ms: u64,
    /// The run was interrupted: the figures are those until then.
    interrupted: bool,
}

impl Header {
    fn new(interrupted: bool) -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            command: std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
            finished_unix_ms: now_us() / 1_000,
            interrupted,
        }
    }

    fn to_text(&self) -> String {
        let finished = UNIX_EPOCH + Duration::from_millis(self.finished_unix_ms);
        let (version, commit) = (self.version, self.commit);
        format!("loadgen {version} ({commit}), {}: {}", httpdate::fmt_http_date(finished), self.command)
    }
}

/// Gives the report of a scenario to people, and to programs as JSON where a file is named. Either gets it where the other
/// can't. The report of a run that was `interrupted` says so.
pub(crate) fn hand_out(
    text: &str,
    report: &impl Serialize,
    file: Option<&Path>,
    interrupted: bool,
) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct File<'a, R> {
        #[serde(flatten)]
        header: &'a Header,
        #[serde(flatten)]
        report: &'a R,
    }
    let header = Header::new(interrupted);
    let end = if interrupted { "\nINTERRUPTED: a partial report, with the figures until then" } else { "" };
    let shown = writeln!(std::io::stdout().lock(), "{}\n{text}{end}", header.to_text());
    if let Some(path) = file {
        let json = serde_json::to_string_pretty(&File { header: &header, report })?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    shown.context("cannot show the report")
}

/// All figures of a run. Field names are a contract: programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) settings: Settings,
    pub(crate) posts: Posts,
    pub(crate) viewers: Vec<Viewers>,
    pub(crate) audit: Verdict,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) live_url: String,
    pub(crate) mqtt: String,
    pub(crate) room: String,
    pub(crate) rate_per_s: u32,
    pub(crate) duration_ms: u64,
    pub(crate) warm_up_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) settle_ms: u64,
    pub(crate) connections: usize,
    pub(crate) reactions: Vec<String>,
    pub(crate) count: u64,
    pub(crate) batch: Option<usize>,
}

/// The posting side. Counts are of requests.
#[derive(Debug, Serialize)]
pub(crate) struct Posts {
    /// On the schedule.
    pub(crate) planned: u64,
    pub(crate) sent: u64,
    /// Due, but too late to be sent.
    pub(crate) not_sent: u64,
    pub(crate) by_status: BTreeMap<u16, u64>,
    pub(crate) timeouts: u64,
    pub(crate) broken: u64,
    pub(crate) connect_errors: u64,
    pub(crate) odd_answers: u64,
    pub(crate) first_error: Option<String>,
    /// Of the 202, from when the request was due.
    pub(crate) latency_from_schedule: Option<Quantiles>,
    /// Of the 202, from when the request was sent.
    pub(crate) latency_from_send: Option<Quantiles>,
}

/// The viewers of one protocol, summed up.
#[derive(Debug, Serialize)]
pub(crate) struct Viewers {
    pub(crate) protocol: &'static str,
    pub(crate) asked: usize,
    /// At the end of the run.
    pub(crate) connected: usize,
    pub(crate) frames: u64,
    /// Frames passed over while connected.
    pub(crate) skips: u64,
    /// Frames passed over from one connection to the next.
    pub(crate) missed: u64,
    pub(crate) reconnects: u64,
    /// Frames that break a promise.
    pub(crate) broken: u64,
    /// Frames received before their window's end.
    pub(crate) ahead: u64,
    /// Receipt less the end of the frame's window.
    pub(crate) delay: Option<Quantiles>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, poster: &Poster, galleries: &[Gallery], audit: Verdict) -> Self {
        let viewers = galleries.iter().map(Viewers::of).collect();
        Self {
            scenario: "crowd",
            settings: Settings::of(plan),
            posts: Posts::of(plan, poster),
            viewers,
            audit,
        }
    }

    /// The report as tables, without a line break at its end.
    pub(crate) fn to_text(&self) -> String {
        let (settings, posts) = (&self.settings, &self.posts);
        let mut text = format!(
            "\n{} POST/s for {:?} over {} connections into room {}\n\n",
            settings.rate_per_s,
            Duration::from_millis(settings.duration_ms),
            settings.connections,
            settings.room,
        );
        text += &table(&posts.counts());
        if let Some(error) = &posts.first_error {
            // Writing to a string can't fail.
            let _ = writeln!(text, "first error: {error}");
        }
        text += "\n";
        let latencies =
            [("from schedule", posts.latency_from_schedule), ("from send", posts.latency_from_send)];
        let mut rows = vec![row(["latency of 202, ms", "p50", "p90", "p99", "max"])];
        rows.extend(latencies.map(|(name, q)| [vec![name.to_owned()], figures_ms(q)].concat()));
        text += &table(&rows);
        text += "\n";
        if !self.viewers.is_empty() {
            text += &table(&viewer_rows(&self.viewers));
            text += "\n";
        }
        text + &self.audit.to_text()
    }
}

impl Settings {
    fn of(plan: &Plan) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            url: plan.url.to_string(),
            live_url: plan.live_url.to_string(),
            mqtt: plan.mqtt.to_string(),
            room: plan.room.to_string(),
            rate_per_s: plan.rate_per_s,
            duration_ms: ms(plan.duration),
            warm_up_ms: ms(plan.warm_up),
            timeout_ms: ms(plan.timeout),
            settle_ms: ms(plan.settle),
            connections: plan.connections,
            reactions: plan.reactions.iter().map(ToString::to_string).collect(),
            count: plan.count,
            batch: plan.batch,
        }
    }
}

impl Posts {
    fn of(plan: &Plan, poster: &Poster) -> Self {
        let not_sent = poster.tickets.with(|tickets| tickets.not_sent());
        poster.tally.with(|tally| Self {
            planned: Schedule::new(plan.rate_per_s, plan.duration).total(),
            sent: tally.sent,
            not_sent,
            by_status: tally.by_status.clone(),
            timeouts: tally.timeouts,
            broken: tally.broken,
            connect_errors: tally.connect_errors,
            odd_answers: tally.odd_answers,
            first_error: tally.first_error.clone(),
            latency_from_schedule: tally.from_schedule.quantiles(),
            latency_from_send: tally.from_send.quantiles(),
        })
    }

    fn counts(&self) -> [Vec<String>; 2] {
        let fixed = [("planned", self.planned), ("sent", self.sent), ("not sent", self.not_sent)];
        let mut columns: Vec<_> = fixed.map(|(name, n)| (name.to_owned(), n)).into();
        columns.extend(self.by_status.iter().map(|(status, n)| (status.to_string(), *n)));
        let rare = [
            ("timeout", self.timeouts),
            ("broken", self.broken),
            ("not connected", self.connect_errors),
            ("odd", self.odd_answers),
        ];
        columns.extend(rare.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)));
        let (mut head, mut figures) = (vec!["posts".to_owned()], vec![String::new()]);
        for (name, n) in columns {
            head.push(name);
            figures.push(n.to_string());
        }
        [head, figures]
    }
}

impl Viewers {
    fn of(gallery: &Gallery) -> Self {
        gallery.audience.with(|audience| {
            let seats = audience.seats();
            Self {
                protocol: gallery.protocol,
                asked: seats.len(),
                connected: audience.connected(),
                frames: seats.iter().map(|seat| seat.frames).sum(),
                skips: seats.iter().map(|seat| seat.skips).sum(),
                missed: seats.iter().map(|seat| seat.missed).sum(),
                reconnects: seats.iter().map(|seat| seat.connects.saturating_sub(1)).sum(),
                broken: seats.iter().map(|seat| seat.broken).sum(),
                ahead: audience.ahead,
                delay: audience.delays.quantiles(),
            }
        })
    }
}

impl Verdict {
    /// One line when clean; otherwise what differs.
    pub(crate) fn to_text(&self) -> String {
        let doubt = if self.unknown > 0 { format!(" (+ {} unknown)", self.unknown) } else { String::new() };
        let counted = self.counted.map_or_else(|| "no agreed figure".to_owned(), |n| format!("counted {n}"));
        let (verdict, relation) = match self.clean {
            true if self.unknown > 0 => ("clean", "~"),
            true => ("clean", "=="),
            false => ("NOT CLEAN", "vs"),
        };
        let mut text = format!(
            "AUDIT {verdict}: accepted {}{doubt} {relation} {counted}, seen by {} of {} viewers",
            self.accepted, self.viewers_right, self.viewers,
        );
        for finding in &self.findings {
            let _ = write!(text, "\n  - {finding}");
        }
        for remark in &self.remarks {
            let _ = write!(text, "\n  (remark) {remark}");
        }
        text
    }
}

fn viewer_rows(viewers: &[Viewers]) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "viewers",
        "asked",
        "connected",
        "frames",
        "skips",
        "missed",
        "reconnects",
        "broken",
        "delay p50, ms",
        "p90",
        "p99",
        "max",
    ])];
    for of in viewers {
        let mut cells = vec![of.protocol.to_owned(), of.asked.to_string(), of.connected.to_string()];
        cells.extend([of.frames, of.skips, of.missed, of.reconnects, of.broken].map(|n| n.to_string()));
        cells.extend(figures_ms(of.delay));
        rows.push(cells);
    }
    rows
}

/// p50, p90, p99 and max in milliseconds; dashes where nothing was measured.
fn figures_ms(quantiles: Option<Quantiles>) -> Vec<String> {
    let ms = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
    quantiles
        .map_or(vec!["-".to_owned(); 4], |q| vec![ms(q.p50_us), ms(q.p90_us), ms(q.p99_us), ms(q.max_us)])
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Aligns columns: the first to the left, the others, which are figures, to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
