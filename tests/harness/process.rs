//! The real binary, started as operators start it.

use super::{
    http,
    wait::{until, until_now},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

pub const UPROAR: &str = env!("CARGO_BIN_EXE_uproar");

/// A running `uproar`. Killed when dropped.
pub struct Uproar {
    child: Child,
    /// Public HTTP.
    pub http: String,
    /// Where MQTT viewers connect.
    pub mqtt: String,
    pub admin: String,
    log: PathBuf,
}

/// How to start one. Ports are chosen once, so that a restart has the same.
pub struct Plan {
    role: &'static str,
    dir: PathBuf,
    name: String,
    sets: Vec<String>,
    config: Option<PathBuf>,
    http: String,
    mqtt: String,
    admin: String,
}

/// A loopback address that was free a moment ago, and that no other plan of this process has. Its port is below the range
/// that outgoing connections take: clients that try again and again while its owner is down would take it themselves.
pub fn free_address() -> String {
    const PORTS: std::ops::Range<u32> = 10_000..20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other processes of tests begin elsewhere.
    let begin = std::process::id().wrapping_mul(997);
    let mut candidates = std::iter::repeat_with(|| {
        let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        format!("127.0.0.1:{}", PORTS.start + step % (PORTS.end - PORTS.start))
    });
    candidates.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

/// The load generator, which `cargo test --workspace` builds beside `uproar`.
pub fn loadgen() -> PathBuf {
    let path = Path::new(UPROAR).with_file_name("loadgen");
    assert!(path.exists(), "{} is missing: run `cargo test --workspace`", path.display());
    path
}

/// A program of others. Where it is missing the test is skipped, with a visible line that says how to get it.
pub fn tool(name: &str, how_to_get: &str) -> Option<Command> {
    let found = Command::new(name).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        super::skip(&format!("no {name}: {how_to_get}"));
    }
    found.then(|| Command::new(name))
}

impl Plan {
    /// `role` with its logs and data in `dir`.
    pub fn new(role: &'static str, dir: &Path) -> Self {
        let (http, mqtt, admin) = (free_address(), free_address(), free_address());
        let (dir, name) = (dir.to_owned(), role.to_owned());
        Self { role, dir, name, sets: Vec::new(), config: None, http, mqtt, admin }
    }

    /// A second one of a role needs another name.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// `--set section.key=value`.
    pub fn set(mut self, set: impl Into<String>) -> Self {
        self.sets.push(set.into());
        self
    }

    /// The values of all `--set` options.
    pub fn sets(&self) -> Vec<String> {
        self.sets.clone()
    }

    /// `--config file`.
    pub fn config(mut self, file: &Path) -> Self {
        self.config = Some(file.to_owned());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(UPROAR);
        command.arg(self.role);
        let own = [
            format!("service.admin_listen={}", self.admin),
            format!("ingest.listen={}", self.http),
            format!("fanout.listen={}", self.http),
            format!("history.listen={}", self.http),
            format!("history.dir={}", self.dir.join(format!("{}-history", self.name)).display()),
            format!("fanout.mqtt.listen={}", self.mqtt),
            format!("log.embedded.dir={}", self.dir.join("data").display()),
        ];
        for set in own.iter().chain(&self.sets) {
            command.args(["--set", set]);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
    }

    /// Starts it, without waiting.
    pub fn spawn(&self) -> Uproar {
        let log = self.dir.join(format!("{}.log", self.name));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        self.spawn_onto(file.try_clone().unwrap().into(), file.into())
    }

    /// The same with other files for its standard output and standard error.
    pub fn spawn_onto(&self, out: Stdio, error: Stdio) -> Uproar {
        let log = self.dir.join(format!("{}.log", self.name));
        let mut command = self.command();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
        let (http, mqtt, admin) = (self.http.clone(), self.mqtt.clone(), self.admin.clone());
        Uproar { child, http, mqtt, admin, log }
    }

    /// Starts it, and waits until it is ready.
    pub async fn start(&self) -> Uproar {
        let mut uproar = self.spawn();
        uproar.until_ready().await;
        uproar
    }
}

impl Uproar {
    pub async fn until_ready(&mut self) {
        let what = format!("{} to be ready", self.log.display());
        let ready = async |uproar: &mut Self| {
            if let Some(status) = uproar.child.try_wait().unwrap() {
                panic!("ended at its start: {status}\n{}", uproar.log());
            }
            let answer = http::get(&uproar.admin, "/readyz").await?;
            (answer.status == 200).then_some(())
        };
        let start = std::time::Instant::now();
        while ready(self).await.is_none() {
            assert!(start.elapsed() < super::wait::PATIENCE, "waited for {what}\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// All that it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `text`.
    pub async fn until_log(&self, text: &str) {
        until(&format!("{text:?} in the log:\n{}", self.log()), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// A counter or gauge of its metrics, zero where it isn't there.
    pub async fn metric(&self, name: &str) -> f64 {
        let all = http::get(&self.admin, "/metrics").await.unwrap().body;
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Its memory (VmRSS), KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        until_now("the process to end", || self.child.try_wait().unwrap())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// SIGTERM, which must end well.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Uproar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
