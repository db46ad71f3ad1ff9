//! The command line of `loadgen edge`.

use super::{
    limits,
    plan::{Candidates, Kind, Plan, Protocol, Running},
};
use crate::{
    cli::{duration, report_file},
    proc, target, uproar,
};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hyper::Uri;
use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

pub(crate) const EXAMPLES: &str = "\
Examples:
  10,000 viewers on each server that is there, beside each other in one table:
    loadgen edge
  Uproar against the floor, as many viewers as fit into one process here:
    loadgen edge --servers floor,uproar --viewers 18900 --report edge.json
  100,000 viewers over 6 independent processes of each server:
    loadgen edge --servers floor,uproar --viewers 100000 --server-processes 6
  WebSocket viewers, with a limit of Uproar changed:
    loadgen edge --servers uproar-ws --viewers 5000 --set fanout.ping_interval_ms=60000
  200 viewers that never read beside 200 that do, large frames:
    loadgen edge --servers floor,mosquitto --viewers 200 --silent 200 --frame-bytes 18000 --frames 300 \\
      --interval 100ms
  Watch a server that runs already and that others feed:
    loadgen edge --target mqtt://127.0.0.1:1883/reactions/ind-pak-final --pid 4242 --viewers 1000
    loadgen edge --target ws://127.0.0.1:8081/v1/rooms/ind-pak-final/live --viewers 1000
    loadgen edge --target http://127.0.0.1:8081/v1/rooms/ind-pak-final/events --viewers 1000
  The same, while that server is stopped: its viewers go to another one, and miss how much?
    loadgen edge --target mqtt://127.0.0.1:1883/reactions/ind-pak-final --then 127.0.0.1:2883

What is measured:
  RSS            of the server, less what it had without viewers, for each of them: when all are in, and at the end
  connects/s     from the first attempt to the last viewer who is in
  CPU            user and system time of the server while frames are sent, for a million deliveries. On one machine
                 the sender also pays for the receiver's half of TCP.
  first, last    receipt anywhere, after the publication: the moment before the PUBLISH is written or, for Uproar, the
                 end of the window that the frame is about (so that it includes the commit)
  spread         from the first to the last receipt of a frame
  missed         frames that viewers who were in did not get, and somebody else did: of a server that runs already nobody
                 knows what it had to send

Several processes of a server know nothing of each other: each is an Uproar of its own, with its own log, that gets
its own POST. Clients share the machine with the servers; read ratios, not digits. Build with --release.";

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    every server was measured, let everybody in, sent as many frames as asked for, and nothing was missed
  1    not so; the lines below the table say what differs (a server that is not installed counts only when it was
       named in --servers)
  2    wrong usage, or the system's limits are too low
  130  interrupted: a partial report shows what was measured until then; a second Ctrl-C leaves without it";

#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// Servers to start and measure, one after the other [default: floor,uproar,mosquitto,rumqttd]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "target")]
    servers: Option<Vec<Kind>>,
    /// Measure a server that runs already: mqtt://HOST:PORT/TOPIC, ws://HOST:PORT/PATH or, for server-sent events,
    /// http://HOST:PORT/PATH
    #[arg(long, value_name = "URL")]
    target: Option<Target>,
    /// Its process, to see memory and CPU
    #[arg(long, requires = "target")]
    pid: Option<u32>,
    /// Where viewers connect when the target closes them, so that a drain can be watched
    #[arg(long, value_name = "HOST:PORT", requires = "target")]
    then: Option<String>,
    /// Viewers that watch one room
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count)]
    viewers: usize,
    /// Viewers beside them that subscribe and never read; what they cost is reported
    #[arg(long, value_name = "N", default_value_t = 0)]
    silent: usize,
    /// Processes of each server, with an even share of the viewers [default: as few as the limit of open files allows]
    #[arg(long, value_name = "N", conflicts_with = "target", value_parser = count)]
    server_processes: Option<usize>,
    /// Processes that the viewers are spread over [default: 2, or as many as there are server processes]
    #[arg(long, value_name = "N", value_parser = count)]
    client_processes: Option<usize>,
    /// Frames to measure, after one to warm up
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    frames: u64,
    /// Time from one frame to the next; the window of Uproar
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    interval: Duration,
    /// Size of a frame's JSON; Uproar's come near it with up to ten distinct reactions, that is 350
    #[arg(long, value_name = "N", default_value_t = 300, conflicts_with = "target")]
    #[arg(value_parser = clap::value_parser!(u32).range(150..=60_000))]
    frame_bytes: u32,
    /// Connections under way at a time to each server process; more than its listen queue holds (100 in Mosquitto, 128 in
    /// rumqttd) makes TCP wait for seconds
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count)]
    connecting: usize,
    /// How long to go on connecting, also where --then sends a viewer; those who are not in by then are reported
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    connect_timeout: Duration,
    /// How long to wait for a frame until it counts as missed
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    settle: Duration,
    /// Keep alive of MQTT viewers; they ping when half of it has passed
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    keep_alive: Duration,
    /// Uproar's program [default: `uproar` beside this one]
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    uproar: Option<PathBuf>,
    /// A configuration value for Uproar; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", conflicts_with = "target")]
    set: Vec<String>,
    /// Mosquitto's program
    #[arg(long, value_name = "FILE", default_value = "mosquitto", conflicts_with = "target")]
    mosquitto: PathBuf,
    /// Save all figures as JSON
    #[arg(long, value_name = "FILE.json", value_parser = report_file)]
    report: Option<PathBuf>,
}

/// Where a server is that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    protocol: Protocol,
    host: String,
    path: String,
    text: String,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse()?;
        let (protocol, path) = match uri.scheme_str() {
            Some("mqtt") => (Protocol::Mqtt, uri.path().trim_start_matches('/')),
            Some(scheme @ ("ws" | "http")) => (
                if scheme == "ws" { Protocol::Ws } else { Protocol::Sse },
                uri.path_and_query().map_or("/", |path| path.as_str()),
            ),
            _ => bail!("write it as mqtt://HOST:PORT/TOPIC, ws://HOST:PORT/PATH or http://HOST:PORT/PATH"),
        };
        ensure!(!path.is_empty(), "the topic is missing");
        ensure!(uri.port().is_some(), "the port is missing");
        let host = uri.authority().context("the host is missing")?.to_string();
        Ok(Self { protocol, host, path: path.to_owned(), text: text.to_owned() })
    }
}

impl Target {
    fn resolve(self, pid: Option<u32>, then: Option<&str>) -> anyhow::Result<Running> {
        let address = address("--target", &self.host)?;
        let then = then.map(|host| self::address("--then", host)).transpose()?;
        Ok(Running { protocol: self.protocol, address, path: self.path, name: self.text, pid, then })
    }
}

fn address(option: &str, host: &str) -> anyhow::Result<SocketAddr> {
    target::resolve(host).with_context(|| format!("{option} {host}"))
}

impl EdgeArgs {
    /// Checks what one argument alone can't show. A process may open `files` files.
    pub(crate) fn plan(self, files: usize) -> anyhow::Result<Plan> {
        ensure!(
            (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.interval),
            "--interval is 100ms to 60s, as Uproar's windows are"
        );
        let keep_alive_s = self.keep_alive.as_secs();
        ensure!((10..=65_535).contains(&keep_alive_s), "--keep-alive is 10s to 18h");
        self.pid.map_or(Ok(()), proc::check)?;
        let named = self.servers.is_some();
        let usual = vec![Kind::Floor, Kind::Uproar, Kind::Mosquitto, Kind::Rumqttd];
        self.check_unused()?;
        let candidates = match self.target {
            Some(target) => Candidates::Running(target.resolve(self.pid, self.then.as_deref())?),
            None => Candidates::Start { kinds: self.servers.unwrap_or(usual), named },
        };
        let fewest = self.viewers.div_ceil(limits::viewers_per_process(files));
        let server_processes = match candidates {
            Candidates::Running(_) => 1,
            Candidates::Start { .. } => self.server_processes.unwrap_or(fewest),
        };
        ensure!(
            server_processes <= self.viewers,
            "--server-processes {server_processes} are more than --viewers {}: one that nobody watches shows nothing",
            self.viewers
        );
        let client_processes = self.client_processes.unwrap_or(fewest.max(2)).max(server_processes);
        let plan = Plan {
            candidates,
            viewers: self.viewers,
            silent: self.silent,
            server_processes,
            client_processes: client_processes.next_multiple_of(server_processes),
            frames: self.frames,
            interval: self.interval,
            frame_bytes: usize::try_from(self.frame_bytes)?,
            connecting: self.connecting,
            connect_timeout: self.connect_timeout,
            settle: self.settle,
            keep_alive: self.keep_alive,
            uproar: uproar::program(self.uproar)?,
            set: self.set,
            mosquitto: self.mosquitto,
            report: self.report,
        };
        limits::check_files(&plan, files)?;
        Ok(plan)
    }

    /// Refuses what would change nothing: whoever wrote it thinks that it was measured.
    fn check_unused(&self) -> anyhow::Result<()> {
        let Some(kinds) = &self.servers else { return Ok(()) };
        let starts_uproar = kinds.iter().any(|kind| kind.is_uproar());
        for (named, option) in [(!self.set.is_empty(), "--set"), (self.uproar.is_some(), "--uproar")] {
            ensure!(!named || starts_uproar, "{option} is for Uproar, and --servers names none");
        }
        Ok(())
    }
}

/// A number from 1 to a million.
fn count(text: &str) -> anyhow::Result<usize> {
    let number = text.replace('_', "").parse().ok().filter(|n| (1..=1_000_000).contains(n));
    number.context("a whole number from 1 to 1000000")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    /// The plan of a command line where a process may open 20,000 files.
    pub(in super::super) fn plan(args: &str) -> anyhow::Result<Plan> {
        let args = ["loadgen", "edge"].into_iter().chain(args.split_whitespace());
        match Cli::try_parse_from(args)?.command {
            Command::Edge(args) => args.plan(20_000),
            _ => bail!("another command"),
        }
    }

    fn refused(args: &str) -> String {
        plan(args).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let plan = plan("").unwrap();
        let kinds = vec![Kind::Floor, Kind::Uproar, Kind::Mosquitto, Kind::Rumqttd];
        assert_eq!(plan.candidates, Candidates::Start { kinds, named: false });
        assert_eq!((plan.viewers, plan.server_processes, plan.client_processes), (10_000, 1, 2));
        assert_eq!((plan.frames, plan.interval.as_millis()), (30, 2_000));
    }

    #[test]
    fn processes_are_as_few_as_the_limit_of_files_allows() {
        let processes = |args| plan(args).map(|p| (p.server_processes, p.client_processes)).unwrap();
        assert_eq!(processes("--viewers 18900"), (1, 2));
        assert_eq!(processes("--viewers 18901"), (2, 2));
        assert_eq!(processes("--viewers 100000"), (6, 6));
        assert_eq!(processes("--viewers 200000"), (11, 11));
        assert_eq!(processes("--viewers 100 --server-processes 2 --client-processes 3"), (2, 4));
        assert!(refused("--viewers 20000 --server-processes 1").contains("use --server-processes 2"));
    }

    #[test]
    fn a_target_is_a_url_of_any_protocol() {
        let own = std::process::id();
        let target = format!("--target mqtt://127.0.0.1:1883/reactions/r --pid {own}");
        let Candidates::Running(mqtt) = plan(&target).unwrap().candidates else {
            panic!("not a running server");
        };
        assert_eq!((mqtt.protocol, mqtt.path.as_str(), mqtt.pid), (Protocol::Mqtt, "reactions/r", Some(own)));
        let Candidates::Running(ws) = plan("--target ws://127.0.0.1:80/v1/live?room=a").unwrap().candidates
        else {
            panic!("not a running server");
        };
        assert_eq!((ws.protocol, ws.path.as_str()), (Protocol::Ws, "/v1/live?room=a"));
        let Candidates::Running(sse) =
            plan("--target http://127.0.0.1:80/v1/rooms/a/events").unwrap().candidates
        else {
            panic!("not a running server");
        };
        assert_eq!((sse.protocol, sse.path.as_str()), (Protocol::Sse, "/v1/rooms/a/events"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (args, why) in [
            ("--servers nginx", "floor, uproar, uproar-ws, uproar-sse, mosquitto, rumqttd"),
            ("--viewers 0", "from 1 to"),
            ("--interval 10ms", "100ms to 60s"),
            ("--keep-alive 1s", "10s to 18h"),
            ("--pid 7", "--target"),
            ("--target ws://127.0.0.1:80/x --pid 4294967295", "there is no such process"),
            ("--target mqtt://127.0.0.1:1883", "topic is missing"),
            ("--target https://127.0.0.1:1883/x", "mqtt://HOST:PORT/TOPIC"),
            ("--target ws://127.0.0.1/x", "port is missing"),
            ("--target ws://127.0.0.1:80/x --servers floor", "cannot be used with"),
            ("--viewers 1 --server-processes 2", "nobody watches"),
            ("--servers floor,mosquitto --set a.b=1", "--set is for Uproar"),
            ("--servers floor --uproar /bin/true", "--uproar is for Uproar"),
            ("--target ws://127.0.0.1:80/x --set a.b=1", "cannot be used with"),
            ("--target ws://127.0.0.1:80/x --uproar /bin/true", "cannot be used with"),
            ("--target ws://127.0.0.1:80/x --mosquitto /bin/true", "cannot be used with"),
            ("--target ws://127.0.0.1:80/x --frame-bytes 500", "cannot be used with"),
            ("--report /no/such/folder/report.json", "there is no folder"),
        ] {
            let said = refused(args);
            assert!(said.contains(why), "{args}: {said}");
        }
    }
}
