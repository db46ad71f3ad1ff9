//! A real Kafka cluster, by the script `tests/kafka/cluster`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

/// What the script answers when Java or Maven is missing.
const MISSING: i32 = 3;

/// A cluster. Goes down when it is dropped, and when this process is gone, however it ends.
pub struct Cluster {
    dir: PathBuf,
    bootstrap: String,
    _turn: Option<Turn>,
}

/// The turn of a test that has a cluster of its own: one at a time, for the sake of small machines.
struct Turn;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Turn {
    fn take() -> Self {
        while TAKEN.swap(true, Ordering::AcqRel) {
            std::thread::sleep(Duration::from_millis(100));
        }
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// The cluster of three brokers that the tests of this process share. Each test takes topics and groups of its own, and
/// leaves the brokers alone.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(3, None)).as_ref()
}

/// A cluster of three brokers for one test, that may do to them what it wants. Waits for its turn.
pub fn own() -> Option<Cluster> {
    Cluster::start(3, Some(Turn::take()))
}

/// A single broker for one test. Waits for its turn.
pub fn single() -> Option<Cluster> {
    Cluster::start(1, Some(Turn::take()))
}

impl Cluster {
    /// Starts brokers 1 to `brokers`. `None` where Java or Maven is missing: the test is skipped, and says so.
    fn start(brokers: u32, turn: Option<Turn>) -> Option<Self> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = std::env::temp_dir().join(format!("uproar-kafka-{pid}-{number}"));
        let output = script("up", &dir, &[&brokers.to_string(), "--watch", &pid.to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(MISSING) {
            super::skip(&format!("no Kafka: {}", said.trim()));
            return None;
        }
        assert!(output.status.success(), "{said}");
        let bootstrap = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(Self { dir, bootstrap, _turn: turn })
    }

    /// The bootstrap servers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// kill -9 of broker `node`.
    pub fn kill(&self, node: u32) {
        self.must("kill", &[&node.to_string()]);
    }

    /// Stops broker `node` in order, and waits for its end.
    pub fn stop(&self, node: u32) {
        self.must("stop", &[&node.to_string()]);
    }

    /// Gives broker `node` a small disk of its own, and restarts it. `false`: that takes rights that we don't have.
    pub fn give_disk(&self, node: u32, mib: u32) -> bool {
        script("disk", &self.dir, &[&node.to_string(), &mib.to_string()]).status.success()
    }

    /// Fills that disk.
    pub fn fill_disk(&self, node: u32) {
        self.must("fill", &[&node.to_string()]);
    }

    /// Frees it again.
    pub fn free_disk(&self, node: u32) {
        self.must("free", &[&node.to_string()]);
    }

    /// Whether broker `node` runs.
    pub fn runs(&self, node: u32) -> bool {
        let status = script("status", &self.dir, &[]).stdout;
        String::from_utf8_lossy(&status).contains(&format!("broker {node}: runs"))
    }

    /// Lets broker `node` hang: its connections stay open, and nothing is answered.
    pub fn pause(&self, node: u32) {
        self.must("pause", &[&node.to_string()]);
    }

    /// Ends the pause.
    pub fn resume(&self, node: u32) {
        self.must("resume", &[&node.to_string()]);
    }

    /// Runs kafka-topics, and returns what it prints.
    pub fn topics(&self, arguments: &[&str]) -> String {
        self.must("topics", arguments)
    }

    /// Runs kafka-configs.
    pub fn configs(&self, arguments: &[&str]) {
        self.must("configs", arguments);
    }

    /// Whether every replica of every partition has caught up.
    pub fn is_in_sync(&self) -> bool {
        self.topics(&["--describe", "--under-replicated-partitions"]).trim().is_empty()
    }

    /// Runs kafka-consumer-groups.
    pub fn groups(&self, arguments: &[&str]) {
        self.must("groups", arguments);
    }

    /// Deletes all records that partition 0 of `topic` has.
    pub fn trim(&self, topic: &str) {
        self.must("trim", &[topic]);
    }

    /// Starts broker `node` again, with the same data at the same port, and waits until it is ready.
    pub fn restart(&self, node: u32) {
        self.must("start", &[&node.to_string()]);
    }

    fn must(&self, command: &str, rest: &[&str]) -> String {
        let output = script(command, &self.dir, rest);
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{rest:?}\n{}\n{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = script("down", &self.dir, &[]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn script(command: &str, dir: &Path, rest: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/cluster");
    Command::new(path).arg(command).arg(dir).args(rest).output().expect("bash is there")
}
