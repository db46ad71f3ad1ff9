//! A real Kafka cluster, by the script `tests/kafka/cluster`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// What the script answers when Java or Maven is missing.
const MISSING: i32 = 3;

/// A cluster of its own. Goes down when it is dropped, and when this process is gone, however it ends.
pub struct Cluster {
    dir: PathBuf,
    bootstrap: String,
}

/// The cluster of three brokers that the tests of this process share. Each test takes topics and groups of its own, and
/// leaves the brokers alone.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(3)).as_ref()
}

impl Cluster {
    /// Starts brokers 1 to `brokers`. `None` where Java or Maven is missing: the test is skipped, and says so.
    pub fn start(brokers: u32) -> Option<Self> {
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
        Some(Self { dir, bootstrap })
    }

    /// The bootstrap servers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// kill -9 of broker `node`.
    pub fn kill(&self, node: u32) {
        self.must("kill", node);
    }

    /// Starts broker `node` again, with the same data at the same port, and waits until it is ready.
    pub fn restart(&self, node: u32) {
        self.must("start", node);
    }

    fn must(&self, command: &str, node: u32) {
        let output = script(command, &self.dir, &[&node.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
