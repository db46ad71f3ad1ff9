//! The command line: what can be asked for, and what makes no sense.

use crate::{
    crowd::Plan,
    edge::{self, cli::EdgeArgs},
    files,
    ingest::{self, cli::IngestArgs},
    random,
    target::{HttpTarget, MqttTarget},
};
use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use wire::{Reaction, RoomName};

const EXAMPLES: &str = "\
Examples:
  A minute of 2,000 POST/s, watched by 50 WebSocket and 50 MQTT viewers:
    loadgen crowd --url http://127.0.0.1:8080 --live-url http://127.0.0.1:8081
  The all-in-one server on one port, no MQTT, figures for a program:
    loadgen crowd --url http://127.0.0.1:8080 --ws-viewers 20 --mqtt-viewers 0 --report run.json
  Few but fat requests, 4 reactions with 25 taps each, into a room of your own:
    loadgen crowd --room ind-pak-final --rate 100 --count 25 --batch 4 --duration 2m
  A short check in a script (exit code 0 only when the audit is clean):
    loadgen crowd --rate 200 --duration 5s --viewers 10 || echo lost or double counted

The room must be nobody else's while the run lasts: their reactions would be counted too many.";

const EXIT_CODES: &str = "\
Exit codes:
  0    the audit is clean: everybody saw counted what was accepted
  1    it is not; the last lines say what differs
  2    wrong usage, the limit of open files is too low, or the server can't be reached at all
  130  interrupted: the first Ctrl-C ends the posting, and a partial report with a clean audit follows; before the posting,
       or the second time, it leaves at once without a report";

/// Loads an Uproar server as its clients do, and audits what it counts.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Posts reactions at a fixed rate while viewers watch, then checks that every viewer saw all of them counted.
    ///
    /// The schedule is open-loop: a slow server doesn't slow it, and latency is measured from the time at which a
    /// request was due. Requests that are --timeout late are not sent, and are reported as such.
    // What comes later wins, so that scripts can append to a common line.
    #[command(args_override_self = true, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
    Crowd(CrowdArgs),
    /// Opens very many viewers, and measures what they cost a server: beside the least that a server can do, and beside
    /// others.
    ///
    /// Each server is started on loopback, takes the viewers of one room, and sends them a frame at a time. One table
    /// shows them beside each other.
    #[command(args_override_self = true, after_help = format!("{}\n\n{}", edge::cli::EXAMPLES, edge::cli::EXIT_CODES))]
    Edge(EdgeArgs),
    /// Measures what accepting a reaction costs a server: CPU and time of a POST, beside a handler that does nothing, at
    /// given rates, and under overload.
    ///
    /// Each server is started on loopback. Connections post as fast as they are answered or, with --rate, when requests are
    /// due. One table shows the servers beside each other.
    #[command(args_override_self = true, after_help = format!("{}\n\n{}", ingest::cli::EXAMPLES, ingest::cli::EXIT_CODES))]
    Ingest(IngestArgs),
    /// The floor of `edge`, until standard input is closed
    #[command(hide = true)]
    Floor {
        /// Where viewers and the publisher connect
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The yardstick of `ingest`, until standard input is closed
    #[command(hide = true)]
    Bare {
        /// Where requests are answered
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A client process of `edge`, for one order from standard input
    #[command(hide = true)]
    EdgeClient,
}

#[derive(Debug, Args)]
pub(crate) struct CrowdArgs {
    /// Where reactions are posted
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: HttpTarget,
    /// Where WebSocket viewers connect and snapshots are fetched [default: --url]
    #[arg(long, value_name = "URL")]
    live_url: Option<HttpTarget>,
    /// Where MQTT viewers connect
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    mqtt: MqttTarget,
    /// The room [default: a new one with a random name]
    #[arg(long)]
    room: Option<RoomName>,
    /// POSTs a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long to post
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Viewers, half of them on WebSockets, half on MQTT
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with_all = ["ws_viewers", "mqtt_viewers"])]
    viewers: usize,
    /// Viewers on WebSockets, instead of --viewers
    #[arg(long, value_name = "N")]
    ws_viewers: Option<usize>,
    /// Viewers on MQTT, instead of --viewers
    #[arg(long, value_name = "N")]
    mqtt_viewers: Option<usize>,
    /// The reactions to send in turn; one that is listed twice is sent twice as often
    #[arg(long, value_name = "LIST", default_value = "🔥,👏,😂,❤️", value_delimiter = ',')]
    reactions: Vec<Reaction>,
    /// How often a POST counts each of its reactions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Distinct reactions in each POST [default: one, in the short form of the body]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Connections to post over
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// First part of the duration that is audited but not timed [default: 2s, at most a tenth of --duration]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warm_up: Option<Duration>,
    /// How long to wait for an answer, and how late a request may be sent at most
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// How long to wait at the end until everybody has seen everything
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    settle: Duration,
    /// Save all figures as JSON
    #[arg(long, value_name = "FILE.json", value_parser = report_file)]
    report: Option<PathBuf>,
}

impl CrowdArgs {
    /// Checks what one argument alone can't show. A process may open `files` files.
    pub(crate) fn plan(self, files: usize) -> anyhow::Result<Plan> {
        ensure!(!self.duration.is_zero(), "--duration must be above zero");
        let warm_up = self.warm_up.unwrap_or(Duration::from_secs(2).min(self.duration / 10));
        ensure!(
            warm_up < self.duration,
            "--warm-up ({warm_up:?}) must be shorter than --duration ({:?})",
            self.duration
        );
        let taps = self.duration.as_nanos() * u128::from(self.rate);
        ensure!(
            taps >= 1_000_000_000,
            "--rate {} for {:?} comes to no request at all",
            self.rate,
            self.duration
        );
        let distinct = self.reactions.iter().collect::<BTreeSet<_>>().len();
        if let Some(batch) = self.batch
            && !(1..=distinct).contains(&batch)
        {
            bail!("--batch {batch} needs 1 to {distinct} reactions, as many as --reactions lists");
        }
        let (ws_viewers, mqtt_viewers) = match (self.ws_viewers, self.mqtt_viewers) {
            (None, None) => (self.viewers - self.viewers / 2, self.viewers / 2),
            (ws, mqtt) => (ws.unwrap_or(0), mqtt.unwrap_or(0)),
        };
        let needed = ws_viewers.saturating_add(mqtt_viewers).saturating_add(usize::from(self.connections));
        files::check(needed, "viewers and connections", files)?;
        let room = match self.room {
            Some(room) => room,
            None => format!("crowd-{}", random::token()).parse().context("the random room name")?,
        };
        Ok(Plan {
            live_url: self.live_url.unwrap_or_else(|| self.url.clone()),
            url: self.url,
            mqtt: self.mqtt,
            room,
            rate_per_s: self.rate,
            duration: self.duration,
            warm_up,
            timeout: self.timeout,
            settle: self.settle,
            connections: self.connections.into(),
            reactions: self.reactions,
            count: self.count.into(),
            batch: self.batch,
            ws_viewers,
            mqtt_viewers,
            report: self.report,
        })
    }
}

/// A file that can be written, or made, which this doesn't do: a run that can't be saved is not begun.
pub(crate) fn report_file(text: &str) -> anyhow::Result<PathBuf> {
    let file = PathBuf::from(text);
    ensure!(!file.is_dir(), "{} is a folder", file.display());
    if file.is_file() {
        OpenOptions::new().append(true).open(&file).context("the file can't be written")?;
    }
    if !file.exists() {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        tempfile::tempfile_in(folder).context("the folder takes no file")?;
    }
    Ok(file)
}

/// `500ms`, `60s`, `2m` or `1h`.
pub(crate) fn duration(text: &str) -> anyhow::Result<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => bail!("write a whole number and a unit, such as 500ms, 60s, 2m or 1h"),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms_per_unit));
    // A day is enough for a run, and keeps all sums far from overflow.
    let ms = ms.filter(|ms| *ms <= 24 * 3_600_000).context("a duration is a number up to 24h")?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// The plan of a command line where a process may open 20,000 files.
    fn plan(args: &str) -> anyhow::Result<Plan> {
        let args = ["loadgen", "crowd"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(args)?.command {
            Command::Crowd(args) => args.plan(20_000),
            other => bail!("another command: {other:?}"),
        }
    }

    fn refused(args: &str) -> String {
        plan(args).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let plan = plan("").unwrap();
        assert_eq!(plan.url, plan.live_url);
        assert_eq!((plan.ws_viewers, plan.mqtt_viewers, plan.connections), (50, 50, 64));
        assert_eq!((plan.rate_per_s, plan.duration.as_secs(), plan.warm_up.as_secs()), (2_000, 60, 2));
        assert_eq!(plan.reactions.len(), 4);
        assert!(plan.room.starts_with("crowd-"));
    }

    #[test]
    fn viewers_are_halved_or_named_by_protocol() {
        let counts = |args| plan(args).map(|plan| (plan.ws_viewers, plan.mqtt_viewers)).unwrap();
        assert_eq!(counts("--viewers 5"), (3, 2));
        assert_eq!(counts("--ws-viewers 7"), (7, 0));
        assert_eq!(counts("--mqtt-viewers 2 --ws-viewers 1"), (1, 2));
        assert!(refused("--viewers 5 --ws-viewers 1").contains("cannot be used with"));
    }

    #[test]
    fn every_viewer_and_connection_takes_a_file() {
        assert!(plan("--viewers 19700 --connections 100").is_ok());
        let why =
            "19801 viewers and connections don't fit into one process: it may open 20000 files (ulimit -Hn)";
        for args in
            ["--viewers 19701 --connections 100", "--ws-viewers 9701 --mqtt-viewers 10000 --connections 100"]
        {
            assert_eq!(refused(args), why, "{args}");
        }
        assert!(refused("--viewers 18446744073709551615").contains("don't fit"));
    }

    #[test]
    fn a_short_run_has_a_short_warm_up() {
        assert_eq!(plan("--duration 1s").unwrap().warm_up, Duration::from_millis(100));
        assert!(refused("--duration 1s --warm-up 1s").contains("shorter than --duration"));
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [("500ms", 500), ("60s", 60_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["60", "s", "", "1.5s", "-1s", "1 s", "25h", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (args, why) in [
            ("--rate 0", "0 is not in"),
            ("--duration 0s", "--duration must be above zero"),
            ("--rate 1 --duration 999ms", "no request at all"),
            ("--batch 5", "needs 1 to 4 reactions"),
            ("--batch 2 --reactions a,a", "needs 1 to 1 reactions"),
            ("--batch 0", "needs 1 to 4"),
            ("--room a/b", "room name may hold"),
            ("--reactions a,,b", "this one is empty"),
            ("--url https://example.net", "TLS is not spoken"),
            ("--mqtt example.net", "host:port"),
            ("--duration 60", "such as 500ms"),
            ("--report /no/such/folder/report.json", "there is no folder"),
            ("--report /", "/ is a folder"),
            ("--report /proc/report.json", "the folder takes no file"),
        ] {
            let said = refused(args);
            assert!(said.contains(why), "{args}: {said}");
        }
    }
}
