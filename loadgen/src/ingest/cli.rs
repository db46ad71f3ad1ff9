//! The command line of `loadgen ingest`.

use super::plan::{Bodies, Body, Candidate, Kind, Mode, Plan, cases};
use crate::{
    cli::{duration, report_file},
    files,
    payload::payloads,
    proc,
    schedule::Schedule,
    target::HttpTarget,
    uproar,
};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::{collections::BTreeSet, path::PathBuf, time::Duration};
use wire::Reaction;

pub(crate) const EXAMPLES: &str = "\
Examples:
  Uproar beside a handler that does nothing: both bodies, 1 and 10,000 rooms, 64 to 4,000 connections (8 minutes):
    loadgen ingest
  One case, with an audit of what was counted:
    loadgen ingest --body tap --rooms 1 --connections 64 --audit
  What durability costs beside an answer at once, with a setting of Uproar changed:
    loadgen ingest --servers bare,uproar,uproar-received --connections 1000 --set ingest.commit_interval_ms=5
  The ingest tier on Kafka, on a single broker:
    loadgen ingest --servers bare,uproar-kafka --kafka 127.0.0.1:9092 --set log.kafka.replication=1 \\
      --set log.kafka.min_insync=1
  How long a POST takes at which rate:
    loadgen ingest --rate 100,1000,5000,10000,20000 --servers uproar
  What a POST costs when all servers have the same to do:
    loadgen ingest --rate 5000 --servers bare,uproar --rounds 3
  A million reactions a second into one room, in batches of 52, audited:
    loadgen ingest --rate 19300 --body batch --servers uproar --duration 20s --audit
  What becomes of one, two and five times of what the server can take, and whether it recovers; with a limit low enough
  for these connections to meet it:
    loadgen ingest --overload 1,2,5 --connections 4000 --set ingest.max_waiting=2000
  A server that runs already:
    loadgen ingest --target http://127.0.0.1:8080 --pid 4242 --connections 64

What is measured:
  CPU            user and system time of the server's whole process while a round is measured, for a million answers.
                 For Uproar that is all it does: of `uproar all` also its windows, its log and its edge. On one machine the
                 poster also pays for the server's half of TCP, and the server for the poster's.
                 A closed loop drives each server as fast as it answers. A fast one finds more requests ready at a time and
                 pays less for each; compare servers at the same --rate too
  to bare        that by the bare server's, round by round: the median, and the least and the most of the rounds
  POST, ms       from the send to the whole answer, 202 only. In an open loop also from the time at which the request was
                 due, so that a server that stalls can't hide it: that is what a user would have felt
  not sent       requests of an open loop that were due and found no connection free within --late
  poster us      CPU time of this program's threads for an answer. One thread may be what limits answers/s: CPU figures
                 are right even then

Rounds go from server to server (bare, uproar, bare, uproar, ...), so that whatever else the machine does hits all alike.
All servers stay up for the whole run. Read ratios, not digits. Build with --release.";

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    every server was measured and is there in the end, closed loops of a comparison got nothing but 202, and the audit
       (--audit) is clean; with --rate and --overload a server may refuse (429, 503), also in the closed loop that measures
       its capacity, but not everything; no request on a connection that stands may be without an answer, and with --rate
       no connection be lost
  1    not so; the lines below the table say what differs
  2    wrong usage, or the system's limits are too low
  130  interrupted: a partial report shows what was measured until then; a second Ctrl-C leaves without it";

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Servers to start and measure [default: bare,uproar; with --rate or --overload: uproar; with --target: none]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    servers: Option<Vec<Kind>>,
    /// Measure a server that runs already, beside those of --servers: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    target: Option<HttpTarget>,
    /// Its process, to see memory and CPU
    #[arg(long, requires = "target")]
    pid: Option<u32>,
    /// Brokers for uproar-kafka; topics of a new name are created, and left
    #[arg(long, value_name = "HOST:PORT,...")]
    kafka: Option<String>,
    /// Connections [default: 64,1000,4000; with --rate: 1000; with --overload: 4000]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<Vec<u32>>,
    /// Rooms that are posted to in turn [default: 1,10000; with --rate or --overload: 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: Option<Vec<u32>>,
    /// What a POST holds [default: tap,batch; with --rate or --overload: tap]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    body: Option<Vec<Body>>,
    /// The reactions: taps send them in turn, a batch holds them all
    #[arg(long, value_name = "LIST", default_value = "🔥,👏,😂,❤️", value_delimiter = ',')]
    reactions: Vec<Reaction>,
    /// How often a batch counts each reaction
    #[arg(long, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u32).range(1..))]
    batch_count: u32,
    /// Open loop: requests are due at these rates a second, one round after the other, whatever the server does
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "overload")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<Vec<u32>>,
    /// Open loop at these multiples of what a closed loop gets through, then once more at that
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    overload: Option<Vec<f64>>,
    /// Requests under way on a connection at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pipeline: u16,
    /// Rounds of each case on each server [default: 3; with --rate or --overload: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// How long a round is measured
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// How long requests are sent before that
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// How late a request of an open loop may be sent at most
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    late: Duration,
    /// How long to wait for answers at the end of a round
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Threads that post
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    posters: u16,
    /// Compare at the end what was accepted with the totals of the rooms; not of bare, which has none. A server that runs
    /// already must be allowed twice as many rooms (aggregator.max_rooms), or it forgets some
    #[arg(long)]
    audit: bool,
    /// How long the audit waits until the last windows have closed
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    settle: Duration,
    /// Where --audit finds the snapshots of uproar-kafka (an aggregator and a fanout on the same topics, named by --set), or of
    /// --target where that is another address
    #[arg(long, value_name = "URL")]
    live_url: Option<HttpTarget>,
    /// Uproar's program [default: `uproar` beside this one]
    #[arg(long, value_name = "FILE")]
    uproar: Option<PathBuf>,
    /// A configuration value for Uproar; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Save all figures as JSON
    #[arg(long, value_name = "FILE.json", value_parser = report_file)]
    report: Option<PathBuf>,
}

impl IngestArgs {
    /// Checks what one argument alone can't show. A process may open `files` files.
    pub(crate) fn plan(self, files: usize) -> anyhow::Result<Plan> {
        ensure!(!self.duration.is_zero(), "--duration must be above zero");
        let mode = self.mode()?;
        let candidates = self.candidates(&mode)?;
        let bodies = self.bodies()?;
        let (rounds, connections, rooms, body) = match mode {
            Mode::Compare => (3, vec![64, 1_000, 4_000], vec![1, 10_000], vec![Body::Tap, Body::Batch]),
            Mode::Curve(_) => (1, vec![1_000], vec![1], vec![Body::Tap]),
            Mode::Overload(_) => (1, vec![4_000], vec![1], vec![Body::Tap]),
        };
        let connections = self.connections.unwrap_or(connections);
        let most = connections.iter().copied().max().unwrap_or(0) as usize;
        files::check(most, "connections", files)?;
        Ok(Plan {
            candidates,
            cases: cases(&self.body.unwrap_or(body), &self.rooms.unwrap_or(rooms), &connections),
            mode,
            bodies,
            rounds: self.rounds.unwrap_or(rounds),
            duration: self.duration,
            warm_up: self.warm_up,
            late: self.late,
            timeout: self.timeout,
            pipeline: self.pipeline.into(),
            posters: self.posters.into(),
            audit: self.audit,
            settle: self.settle,
            live_url: self.live_url,
            kafka: self.kafka,
            uproar: uproar::program(self.uproar)?,
            set: self.set,
            report: self.report,
        })
    }

    fn mode(&self) -> anyhow::Result<Mode> {
        Ok(match (&self.rate, &self.overload) {
            (Some(rates), _) => {
                rates.iter().try_for_each(|rate| self.check_rate(*rate))?;
                Mode::Curve(rates.clone())
            }
            (None, Some(multiples)) => {
                let sane = multiples.iter().all(|multiple| (0.01..=100.0).contains(multiple));
                ensure!(sane, "--overload takes multiples from 0.01 to 100");
                Mode::Overload(multiples.clone())
            }
            (None, None) => Mode::Compare,
        })
    }

    /// Refuses a rate at which nothing falls due while it is measured.
    fn check_rate(&self, rate: u32) -> anyhow::Result<()> {
        let schedule = Schedule::new(rate, self.warm_up + self.duration);
        let last = schedule.total().checked_sub(1).map(|last| schedule.due(last));
        ensure!(
            last.is_some_and(|due| due >= self.warm_up),
            "--rate {rate} for {:?} comes to no request at all",
            self.duration
        );
        Ok(())
    }

    fn candidates(&self, mode: &Mode) -> anyhow::Result<Vec<Candidate>> {
        let usual = match (mode, &self.target) {
            (_, Some(_)) => vec![],
            (Mode::Compare, None) => vec![Kind::Bare, Kind::Uproar],
            (Mode::Curve(_) | Mode::Overload(_), None) => vec![Kind::Uproar],
        };
        let kinds = self.servers.clone().unwrap_or(usual);
        self.pid.map_or(Ok(()), proc::check)?;
        ensure!(
            self.kafka.is_some() || !kinds.contains(&Kind::UproarKafka),
            "uproar-kafka needs --kafka HOST:PORT"
        );
        if let Some(kind) =
            kinds.iter().enumerate().find_map(|(i, kind)| kinds[..i].contains(kind).then_some(kind))
        {
            bail!("--servers names {} twice", kind.name());
        }
        let kafka = kinds.contains(&Kind::UproarKafka);
        ensure!(
            !self.audit || !kafka || self.live_url.is_some(),
            "--audit of uproar-kafka needs --live-url URL"
        );
        self.check_unused(&kinds)?;
        let counts = self.target.is_some() || kinds.iter().any(|kind| *kind != Kind::Bare);
        ensure!(!self.audit || counts, "--audit: bare counts nothing, and there is no other server");
        let running = self.target.clone().map(|url| Candidate::Running { url, pid: self.pid });
        Ok(kinds.into_iter().map(Candidate::Start).chain(running).collect())
    }

    /// Refuses what would change nothing: whoever wrote it thinks that it was measured.
    fn check_unused(&self, kinds: &[Kind]) -> anyhow::Result<()> {
        let kafka = kinds.contains(&Kind::UproarKafka);
        let starts_uproar = kinds.iter().any(|kind| *kind != Kind::Bare);
        ensure!(
            self.kafka.is_none() || kafka,
            "--kafka is for uproar-kafka, which --servers doesn't name: add it (--servers bare,uproar-kafka)"
        );
        for (named, option) in [(!self.set.is_empty(), "--set"), (self.uproar.is_some(), "--uproar")] {
            ensure!(
                !named || starts_uproar,
                "{option} is for an Uproar that is started here, and --servers names none"
            );
        }
        ensure!(self.live_url.is_none() || self.audit, "--live-url is for the audit: add --audit");
        ensure!(
            self.live_url.is_none() || kafka || self.target.is_some(),
            "--live-url is for --target or uproar-kafka: the others have their snapshots themselves"
        );
        Ok(())
    }

    fn bodies(&self) -> anyhow::Result<Bodies> {
        let distinct = self.reactions.iter().collect::<BTreeSet<_>>().len();
        let batch = payloads(&self.reactions, self.batch_count.into(), Some(distinct));
        let batch = batch.into_iter().next().context("--reactions is empty")?;
        Ok(Bodies::new(payloads(&self.reactions, 1, None), batch))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    /// The plan of a command line where a process may open 20,000 files.
    pub(crate) fn plan(args: &str) -> anyhow::Result<Plan> {
        let args = ["loadgen", "ingest"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(args)?.command {
            Command::Ingest(args) => args.plan(20_000),
            _ => bail!("another command"),
        }
    }

    fn kinds(args: &str) -> Vec<String> {
        plan(args).unwrap().candidates.iter().map(Candidate::name).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let plan = plan("").unwrap();
        assert_eq!((plan.cases.len(), plan.rounds, plan.mode.clone()), (12, 3, Mode::Compare));
        assert_eq!((plan.duration.as_secs(), plan.warm_up.as_secs()), (5, 1));
        assert_eq!((plan.pipeline, plan.posters, plan.rooms()), (1, 1, 10_000));
        assert_eq!(kinds(""), ["bare", "uproar"]);
        let batch = plan.bodies.all.last().unwrap();
        assert_eq!((batch.count, batch.counts.len()), (52, 4));
        assert_eq!(plan.bodies.all[0].body, r#"{"reaction":"🔥"}"#);
    }

    #[test]
    fn open_loops_have_defaults_of_their_own() {
        let curve = plan("--rate 100,2000").unwrap();
        assert_eq!((curve.mode, curve.cases.len(), curve.rounds), (Mode::Curve(vec![100, 2_000]), 1, 1));
        assert_eq!(curve.cases[0].connections, 1_000);
        let overload = plan("--overload 1,2.5").unwrap();
        assert_eq!(overload.mode, Mode::Overload(vec![1.0, 2.5]));
        assert_eq!(overload.cases[0].connections, 4_000);
        assert_eq!(kinds("--rate 100"), ["uproar"]);
        plan("--rate 1 --duration 1s").unwrap();
    }

    #[test]
    fn an_audit_needs_a_server_that_counts() {
        for args in [
            "--servers bare,uproar",
            "--servers bare --target http://127.0.0.1:80",
            "--servers uproar-kafka --kafka 127.0.0.1:9092 --live-url http://127.0.0.1:80",
        ] {
            assert!(plan(&format!("{args} --audit")).unwrap().audit, "{args}");
        }
    }

    #[test]
    fn a_target_is_measured_alone_or_beside_others() {
        assert_eq!(kinds("--target http://127.0.0.1:80"), ["http://127.0.0.1:80"]);
        assert_eq!(kinds("--target http://127.0.0.1:80 --servers bare"), ["bare", "http://127.0.0.1:80"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (args, why) in [
            ("--servers nginx", "bare, uproar, uproar-received, uproar-kafka"),
            ("--servers uproar-kafka", "needs --kafka"),
            ("--servers bare,uproar,bare", "names bare twice"),
            ("--servers bare --audit", "bare counts nothing"),
            ("--kafka 127.0.0.1:9092", "add it (--servers bare,uproar-kafka)"),
            ("--servers bare --set a.b=1", "--set is for an Uproar that is started here"),
            ("--target http://127.0.0.1:80 --set a.b=1", "--set is for an Uproar that is started here"),
            ("--target http://127.0.0.1:80 --uproar /bin/true", "--uproar is for an Uproar that is started"),
            ("--target http://127.0.0.1:80 --live-url http://127.0.0.1:81", "add --audit"),
            ("--live-url http://127.0.0.1:81 --audit", "is for --target or uproar-kafka"),
            ("--servers bare,uproar-kafka --kafka 127.0.0.1:9092 --audit", "needs --live-url"),
            ("--connections 19900", "19900 connections don't fit"),
            ("--connections 0", "0 is not in"),
            ("--rate 100,1 --duration 500ms", "--rate 1 for 500ms comes to no request at all"),
            ("--rate 1 --duration 999ms --warm-up 0s", "comes to no request at all"),
            ("--rate 1 --overload 2", "cannot be used with"),
            ("--overload 1000", "0.01 to 100"),
            ("--duration 0s", "above zero"),
            ("--pid 7", "--target"),
            ("--target http://127.0.0.1:80 --pid 4294967295", "there is no such process"),
            ("--body nothing", "tap, batch"),
            ("--report /no/such/folder/report.json", "there is no folder"),
        ] {
            let said = plan(args).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(why), "{args}: {said}");
        }
    }
}
