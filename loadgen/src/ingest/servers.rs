//! The servers under test. All of them stay up for the whole run: one that nobody posts to costs next to nothing.

use super::{
    plan::{Candidate, Kind, Plan},
    report::Failure,
    requests::{Ledger, Requests},
};
use crate::{
    child::{Child, free_address, patiently, until_ready},
    proc::{self, Cpu},
    progress::note,
    target::{self, HttpTarget},
    uproar,
};
use anyhow::{Context as _, bail};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};
use wire::RoomName;

/// Half of Uproar's default of `aggregator.max_rooms`: above this it might forget rooms before they are audited. Half, as
/// each partition may have an equal share of the rooms, and gets more or fewer by their names.
const ROOMS_BY_DEFAULT: u32 = 100_000;
/// How long a server may take for a connection when all is over.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// One server, and what was posted to it so far.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Requests>,
    pub(crate) ledger: Ledger,
    /// Answers of 202 that don't say what was sent.
    pub(crate) odd: u64,
    /// Where its snapshots are.
    pub(crate) live: Option<HttpTarget>,
    /// It is no longer measured.
    pub(crate) failed: bool,
    pid: Option<u32>,
    child: Option<Child>,
    _folder: Option<TempDir>,
}

/// Where a server is, and how it is looked at.
struct Place {
    url: HttpTarget,
    pid: Option<u32>,
    live: Option<HttpTarget>,
    child: Option<Child>,
}

impl Server {
    /// Starts `candidate`, and returns when it takes requests.
    pub(crate) async fn start(
        plan: &Plan,
        candidate: &Candidate,
        rooms: &[RoomName],
    ) -> anyhow::Result<Self> {
        let (place, folder) = match candidate {
            Candidate::Running { url, pid } => {
                let live = plan.live_url.clone().or_else(|| Some(url.clone()));
                (Place { url: url.clone(), pid: *pid, live, child: None }, None)
            }
            Candidate::Start(kind) => {
                let folder = tempfile::tempdir().context("no temporary folder")?;
                let place = match kind {
                    Kind::Bare => start_bare(folder.path()).await?,
                    _ => start_uproar(plan, *kind, folder.path()).await?,
                };
                (place, Some(folder))
            }
        };
        Ok(Self {
            name: candidate.name(),
            address: target::resolve(&place.url.address).context("its address")?,
            requests: Arc::new(Requests::new(&place.url, rooms, &plan.bodies)),
            ledger: Ledger::new(rooms.len(), plan.bodies.all.len()),
            odd: 0,
            live: place.live,
            failed: false,
            pid: place.pid,
            child: place.child,
            _folder: folder,
        })
    }

    /// CPU time so far, of the whole process; `None` where it can't be seen.
    pub(crate) fn cpu(&self) -> anyhow::Result<Option<Cpu>> {
        self.look(proc::cpu)
    }

    /// Resident memory, where it can be seen.
    pub(crate) fn rss_kib(&self) -> anyhow::Result<Option<u64>> {
        self.look(proc::rss_kib)
    }

    /// From now on it is no longer measured, because of `why`.
    pub(crate) fn fail(&mut self, why: String) -> Failure {
        note(&format!("{}: {why}", self.name));
        self.failed = true;
        Failure { server: self.name.clone(), why }
    }

    /// Whether it still takes connections.
    pub(crate) async fn check_there(&self) -> anyhow::Result<()> {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(self.address));
        connecting.await.context("connecting takes too long")??;
        Ok(())
    }

    fn look<T>(&self, look: impl Fn(u32) -> anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let Some(pid) = self.pid else { return Ok(None) };
        let seen = look(pid).with_context(|| match &self.child {
            Some(child) => format!("{} has ended: {}", self.name, child.last_words()),
            None => format!("process {pid} has ended"),
        })?;
        Ok(Some(seen))
    }

    /// Ends what was started.
    pub(crate) async fn end(self) {
        if let Some(child) = self.child {
            child.end().await;
        }
    }
}

async fn start_bare(dir: &Path) -> anyhow::Result<Place> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", "--listen", &address.to_string()]);
    let mut child = Child::start(command, dir)?;
    let url: HttpTarget = format!("http://{address}").parse()?;
    patiently(&mut child, || async { Ok(url.connect().await?) }).await?;
    Ok(Place { url, pid: Some(child.pid), live: None, child: Some(child) })
}

/// Refuses a program that is not there, and a configuration with which it would not start: the other servers would be measured
/// for minutes, and compared with nothing.
pub(crate) async fn check(plan: &Plan) -> anyhow::Result<()> {
    let [http, admin] = [1, 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    for candidate in &plan.candidates {
        if let Candidate::Start(kind) = candidate
            && *kind != Kind::Bare
        {
            if let Some(why) = uproar::missing(&plan.uproar) {
                bail!(why);
            }
            let settings = settings(plan, *kind, http, admin, &std::env::temp_dir());
            uproar::check_config(&plan.uproar, role(*kind), &settings).await?;
        }
    }
    Ok(())
}

fn role(kind: Kind) -> &'static str {
    if kind == Kind::UproarKafka { "ingest" } else { "all" }
}

async fn start_uproar(plan: &Plan, kind: Kind, dir: &Path) -> anyhow::Result<Place> {
    let (http, admin) = (free_address()?, free_address()?);
    let settings = settings(plan, kind, http, admin, dir);
    let mut child = Child::start(uproar::command(&plan.uproar, &[role(kind)], &settings), dir)?;
    until_ready(&mut child, &format!("http://{admin}").parse()?, "/readyz").await?;
    let url: HttpTarget = format!("http://{http}").parse()?;
    let live = if kind == Kind::UproarKafka { plan.live_url.clone() } else { Some(url.clone()) };
    Ok(Place { url, pid: Some(child.pid), live, child: Some(child) })
}

fn settings(plan: &Plan, kind: Kind, http: SocketAddr, admin: SocketAddr, dir: &Path) -> Vec<String> {
    let mut all = vec![
        format!("ingest.listen={http}"),
        format!("service.admin_listen={admin}"),
        "log_output.level=warn,rumqttd=off".to_owned(),
    ];
    if let (Kind::UproarKafka, Some(brokers)) = (kind, &plan.kafka) {
        let name = format!("ingest-{}", crate::random::token());
        all.extend([
            "log.kind=kafka".to_owned(),
            format!("log.kafka.brokers={brokers}"),
            format!("log.kafka.reactions_topic={name}-reactions"),
            format!("log.kafka.aggregates_topic={name}-aggregates"),
            format!("log.kafka.windows_topic={name}-windows"),
        ]);
    } else {
        all.extend([
            format!("log.embedded.dir={}", dir.join("data").display()),
            "fanout.mqtt.enabled=false".to_owned(),
        ]);
    }
    if plan.rooms() > ROOMS_BY_DEFAULT {
        all.push(format!("aggregator.max_rooms={}", 2 * plan.rooms()));
    }
    if kind == Kind::UproarReceived {
        all.push("ingest.ack=received".to_owned());
    }
    // Later ones win.
    all.extend(plan.set.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::cli::tests::plan;

    /// What Uproar is told about `args`.
    fn told(args: &str) -> Vec<String> {
        let address = ([127, 0, 0, 1], 1).into();
        settings(&plan(args).unwrap(), Kind::Uproar, address, address, Path::new("/tmp"))
    }

    #[tokio::test]
    async fn a_process_that_was_not_started_here_has_ended_without_words() {
        let plan = plan("--target http://127.0.0.1:1 --rooms 1").unwrap();
        let url = "http://127.0.0.1:1".parse().unwrap();
        let gone = Candidate::Running { url, pid: Some(u32::MAX) };
        let server = Server::start(&plan, &gone, &["r".parse().unwrap()]).await.unwrap();
        let said = format!("{:#}", server.cpu().unwrap_err());
        assert!(
            said.starts_with("process 4294967295 has ended: cannot read /proc/4294967295/stat"),
            "{said}"
        );
    }

    #[test]
    fn no_room_is_forgotten_before_it_is_audited() {
        let limit = |told: &[String]| told.iter().any(|set| set.starts_with("aggregator.max_rooms="));
        assert!(!limit(&told("--rooms 1,100000")));
        assert!(told("--rooms 300000,1").contains(&"aggregator.max_rooms=600000".to_owned()));
        let own = told("--rooms 300000 --set aggregator.max_rooms=5");
        assert_eq!(own.last().unwrap(), "aggregator.max_rooms=5", "later ones win");
    }
}
