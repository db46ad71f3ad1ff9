//! What a run found out: a table for people, JSON for programs.

use super::{figures::Figures, plan::Plan};
use crate::{machine::Machine, report::table, spread::Quantiles};
use serde::Serialize;
use std::fmt::Write as _;

/// All figures of a run. Field names are a contract: programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) conditions: Conditions,
    pub(crate) servers: Vec<Row>,
    /// Servers without figures.
    pub(crate) not_measured: Vec<NotMeasured>,
    /// Whether every server that was asked for let everybody in, all frames came, and nothing was missed.
    pub(crate) clean: bool,
}

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    #[serde(flatten)]
    pub(crate) machine: Machine,
    pub(crate) viewers: usize,
    pub(crate) silent: usize,
    pub(crate) server_processes: usize,
    pub(crate) client_processes: usize,
    pub(crate) frames: u64,
    pub(crate) interval_ms: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) connecting: usize,
}

/// A server that could not be measured.
#[derive(Debug, Serialize)]
pub(crate) struct NotMeasured {
    pub(crate) server: String,
    pub(crate) why: String,
    /// Not there, and nobody asked for it by name.
    pub(crate) skipped: bool,
}

/// One server. Memory and CPU are sums over its processes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) processes: usize,
    pub(crate) viewers_asked: usize,
    /// Let in.
    pub(crate) viewers: usize,
    /// Let in, then closed by the server, and let in nowhere else.
    pub(crate) lost: usize,
    /// How often a viewer was closed by the server, and let in elsewhere.
    pub(crate) moved: usize,
    /// The most frames that a viewer missed between two that it got.
    pub(crate) widest_gap: u64,
    /// Attempts to connect that were refused or broke.
    pub(crate) retries: usize,
    /// Measured frames: those that were asked for, and those that there were.
    pub(crate) frames_asked: u64,
    pub(crate) frames: u64,
    /// Packets that no viewer should get.
    pub(crate) odd: usize,
    /// What went wrong last, on a viewer's connection.
    pub(crate) trouble: Option<String>,
    /// Those who never read: asked for, and let in.
    pub(crate) silent_asked: usize,
    pub(crate) silent: usize,
    pub(crate) frame_bytes: Option<usize>,
    pub(crate) connects_per_s: Option<f64>,
    /// Without viewers, with all of them, before the first measured frame and after the last.
    pub(crate) rss_before_kib: Option<u64>,
    pub(crate) rss_idle_kib: Option<u64>,
    pub(crate) rss_start_kib: Option<u64>,
    pub(crate) rss_end_kib: Option<u64>,
    /// Memory of the kernel for the data of all TCP sockets of the machine.
    pub(crate) tcp_start_kib: Option<u64>,
    pub(crate) tcp_end_kib: Option<u64>,
    /// While the measured frames were sent.
    pub(crate) cpu_ms: Option<u64>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Row {
    /// Whether everybody was let in, all frames came, and nothing was missed.
    pub(crate) fn is_clean(&self) -> bool {
        let all_in = self.viewers == self.viewers_asked && self.silent == self.silent_asked;
        all_in && self.frames == self.frames_asked && self.figures.missed == 0 && self.odd == 0
    }

    fn rss_per_viewer(&self, then_kib: Option<u64>) -> Option<f64> {
        let grown = then_kib? as f64 - self.rss_before_kib? as f64;
        Some(grown / (self.viewers as f64))
    }

    fn cpu_s_per_million(&self) -> Option<f64> {
        let deliveries = self.figures.deliveries;
        (deliveries > 0).then_some(self.cpu_ms? as f64 * 1e3 / deliveries as f64)
    }

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let figures = &self.figures;
        vec![
            self.server.clone(),
            self.viewers.to_string(),
            self.frame_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            number(self.rss_per_viewer(self.rss_idle_kib), 2),
            // Silent viewers are no part of this figure's denominator.
            number(self.rss_per_viewer(self.rss_end_kib).filter(|_| self.silent == 0), 2),
            number(self.connects_per_s, 0),
            number(self.cpu_s_per_million(), 1),
            p50_max_ms(figures.first),
            p50_max_ms(figures.last),
            p50_max_ms(figures.spread),
            figures.missed.to_string(),
        ]
    }

    /// What the table has no room for.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let because = self.trouble.as_ref().map(|why| format!(" (last: {why})")).unwrap_or_default();
        if self.viewers < self.viewers_asked {
            let outside = self.viewers_asked - self.viewers;
            remarks.push(format!("{outside} of {} viewers were not let in{because}", self.viewers_asked));
        }
        if self.silent < self.silent_asked {
            let outside = self.silent_asked - self.silent;
            remarks
                .push(format!("{outside} of {} silent viewers were not let in{because}", self.silent_asked));
        }
        if self.retries > 0 {
            remarks.push(format!("{} attempts to connect were refused{because}", self.retries));
        }
        if self.lost > 0 {
            remarks.push(format!("{} viewers were let in and then closed{because}", self.lost));
        }
        if self.moved > 0 {
            let (moved, gap) = (self.moved, self.widest_gap);
            remarks.push(format!(
                "{moved} times a viewer was closed and went elsewhere; the widest gap is {gap} frames"
            ));
        }
        if self.frames < self.frames_asked {
            let (frames, asked) = (self.frames, self.frames_asked);
            remarks.push(format!("only {frames} of {asked} frames came: does anybody post to the room?"));
        }
        if self.odd > 0 {
            remarks.push(format!("viewers received {} packets that are no frames of their room", self.odd));
        }
        if self.silent > 0 {
            let grown = |from: Option<u64>, to: Option<u64>| {
                from.zip(to).map_or_else(
                    || "-".to_owned(),
                    |(from, to)| format!("{:+.1}", (to as f64 - from as f64) / 1024.0),
                )
            };
            remarks.push(format!(
                "{} silent viewers beside them; from the first frame to the last: RSS {} MiB, kernel's TCP memory {} MiB",
                self.silent,
                grown(self.rss_start_kib, self.rss_end_kib),
                grown(self.tcp_start_kib, self.tcp_end_kib),
            ));
        }
        remarks
    }
}

impl Conditions {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            machine: Machine::now(),
            viewers: plan.viewers,
            silent: plan.silent,
            server_processes: plan.server_processes,
            client_processes: plan.client_processes,
            frames: plan.frames,
            interval_ms: u64::try_from(plan.interval.as_millis()).unwrap_or(u64::MAX),
            frame_bytes: plan.frame_bytes,
            connecting: plan.connecting,
        }
    }

    fn to_text(&self) -> String {
        format!(
            "{} viewers, {} frames, one every {} ms; {}; \
             {} process(es) a server, {} client processes, {} connections to each under way at a time{}",
            self.viewers,
            self.frames,
            self.interval_ms,
            self.machine.to_text(),
            self.server_processes,
            self.client_processes,
            self.connecting,
            self.machine.warning(),
        )
    }
}

impl Report {
    pub(crate) fn new(conditions: Conditions, servers: Vec<Row>, not_measured: Vec<NotMeasured>) -> Self {
        let clean = servers.iter().all(Row::is_clean) && not_measured.iter().all(|server| server.skipped);
        // Nothing measured is not nothing missed.
        let clean = clean && !servers.is_empty();
        Self { scenario: "edge", conditions, servers, not_measured, clean }
    }

    /// The report as a table, without a line break at its end.
    pub(crate) fn to_text(&self) -> String {
        let head = [
            [
                "server",
                "viewers",
                "frame",
                "RSS, KiB a viewer",
                "the same",
                "connects",
                "CPU s / 1M",
                "first, ms",
                "last, ms",
                "spread, ms",
                "missed",
            ],
            [
                "",
                "",
                "bytes",
                "idle",
                "at the end",
                "/ s",
                "deliveries",
                "p50 / max",
                "p50 / max",
                "p50 / max",
                "",
            ],
        ];
        let mut rows: Vec<Vec<String>> = head.map(|row| row.map(str::to_owned).into()).into();
        rows.extend(self.servers.iter().map(Row::cells));
        let mut text = format!("\n{}\n{}", table(&rows), self.conditions.to_text());
        for row in &self.servers {
            for remark in row.remarks() {
                // Writing to a string can't fail.
                let _ = write!(text, "\n  - {}: {remark}", row.server);
            }
        }
        for NotMeasured { server, why, skipped } in &self.not_measured {
            let word = if *skipped { "skipped" } else { "not measured" };
            let _ = write!(text, "\n  - {server} was {word}: {why}");
        }
        text + if self.clean { "\nEDGE clean: nothing missed" } else { "\nEDGE NOT CLEAN" }
    }
}

fn p50_max_ms(quantiles: Option<Quantiles>) -> String {
    let ms = |us: u64| {
        if us < 10_000 { format!("{:.1}", us as f64 / 1e3) } else { format!("{:.0}", us as f64 / 1e3) }
    };
    quantiles.map_or_else(|| "-".to_owned(), |q| format!("{} / {}", ms(q.p50_us), ms(q.max_us)))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
