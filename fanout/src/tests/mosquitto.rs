//! A Mosquitto of Debian, and who listens to it.

use super::harness::PATIENCE;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// A broker, which may be away. Killed when dropped.
pub(super) struct Mosquitto {
    program: &'static str,
    child: Option<Child>,
    pub(super) dir: TempDir,
    pub(super) port: u16,
}

impl Mosquitto {
    /// A broker that is not running yet, with these lines in its configuration, in which `DIR` is its folder. `None` where
    /// it is not installed; that is a failure where `UPROAR_NO_SKIP=1`.
    pub(super) fn installed(lines: &str) -> Option<Self> {
        let runs = |program: &&str| quiet(Command::new(program).arg("-h")).status().is_ok();
        let Some(program) = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(runs) else {
            let why = "no mosquitto: apt-get install mosquitto";
            assert!(std::env::var("UPROAR_NO_SKIP").as_deref() != Ok("1"), "UPROAR_NO_SKIP=1, but {why}");
            // Not by a macro: the output of a test that passes is not shown.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
            return None;
        };
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let lines = lines.replace("DIR", dir.path().to_str().unwrap());
        // It would give up root, and then not find its files.
        let text = format!("user root\nlistener {port} 127.0.0.1\n{lines}\n");
        fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        Some(Self { program, child: None, dir, port })
    }

    /// The same, running, with nothing remembered over a restart and open to all.
    pub(super) async fn open() -> Option<Self> {
        let mut this = Self::installed("allow_anonymous true")?;
        this.start().await;
        Some(this)
    }

    /// Starts it, and waits until it listens.
    pub(super) async fn start(&mut self) {
        let config = self.dir.path().join("mosquitto.conf");
        self.child = Some(quiet(Command::new(self.program).arg("-c").arg(config)).spawn().unwrap());
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                let ended = self.child.as_mut().unwrap().try_wait().unwrap();
                assert!(ended.is_none(), "mosquitto ended: {ended:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("mosquitto does not listen");
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Tells it to save what it has, and to go.
    pub(super) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        child.wait().unwrap();
    }

    /// Options for a client of it.
    pub(super) fn client(&self, id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        options
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that is subscribed to all rooms.
pub(super) struct Listener {
    client: AsyncClient,
    events: EventLoop,
}

impl Listener {
    pub(super) async fn subscribe(options: MqttOptions) -> Self {
        let (client, events) = AsyncClient::new(options, 10);
        client.subscribe("reactions/+", QoS::AtLeastOnce).await.unwrap();
        let mut this = Self { client, events };
        this.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
        this
    }

    /// Publishes what somebody else left at the broker; it comes back as a message.
    pub(super) async fn leave(&mut self, topic: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, true, "left").await.unwrap();
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> Publish {
        self.until(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }

    /// The `seq` of each room's newest message, up to that of the room `last`.
    pub(super) async fn rooms_until(&mut self, last: &str) -> BTreeMap<String, u64> {
        let mut rooms = BTreeMap::new();
        loop {
            let message = self.message().await;
            let room = message.topic.strip_prefix("reactions/").unwrap().to_owned();
            let seq = wire::Frame::decode(&message.payload).unwrap().seq;
            let is_last = room == last;
            rooms.insert(room, seq);
            if is_last {
                return rooms;
            }
        }
    }

    async fn until<T>(&mut self, mut want: impl FnMut(Packet) -> Option<T>) -> T {
        let look = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(found) = want(packet)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("what was waited for did not come")
    }
}

/// Makes an authority `NAME.pem`, and a certificate signed by it, `NAME-server.pem`, for the name `localhost`.
pub(super) fn certify(dir: &Path, name: &str) {
    let run = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(dir).args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        let done = openssl.args(arguments.split(' ')).output().expect("openssl is needed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(&format!("-subj /CN={name} -keyout {name}.key -out {name}.pem"));
    run(&format!(
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE \
         -CA {name}.pem -CAkey {name}.key -keyout {name}-server.key -out {name}-server.pem"
    ));
}

/// A port that was free a moment ago, below the range that outgoing connections take: a client that tries again and again
/// while its owner is down would take it itself.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes of tests begin elsewhere.
    let begin = (std::process::id() % 10_000) as u16;
    let mut ports =
        std::iter::repeat_with(|| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}
