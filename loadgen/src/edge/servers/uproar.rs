//! Uproar, all tiers in one process on an embedded log: for its own viewers, or for its embedded broker.

use super::{Process, topic};
use crate::{
    child::{Child, free_address, patiently, until_ready},
    edge::{
        plan::{Kind, Plan, Protocol},
        publish::Publisher,
    },
    target::HttpTarget,
    uproar,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

/// Connections beside those of the viewers.
const SPARE: usize = 100;

/// Has it checked what [`start`] would tell it.
pub(super) async fn check(plan: &Plan, kind: Kind) -> anyhow::Result<()> {
    let addresses = [1, 2, 3, 4].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let settings = settings(plan, kind, addresses, &std::env::temp_dir());
    uproar::check_config(&plan.uproar, "all", &settings).await
}

pub(super) async fn start(plan: &Plan, kind: Kind, dir: &Path, room: &str) -> anyhow::Result<Process> {
    let (http, admin) = (free_address()?, free_address()?);
    let (mqtt, broker) = (free_address()?, free_address()?);
    let settings = settings(plan, kind, [http, admin, mqtt, broker], dir);
    let mut child = Child::start(uproar::command(&plan.uproar, &["all"], &settings), dir)?;
    until_ready(&mut child, &format!("http://{admin}").parse()?, "/readyz").await?;
    let (viewers_at, publisher) = match kind {
        Kind::Rumqttd => (broker, patiently(&mut child, || Publisher::mqtt(broker, topic(room))).await?),
        _ => {
            let target: HttpTarget = format!("http://{http}").parse()?;
            (
                if kind.protocol() == Protocol::Mqtt { mqtt } else { http },
                Publisher::http(target, room, plan.frame_bytes),
            )
        }
    };
    Ok(Process { viewers_at, pid: Some(child.pid), publisher, child: Some(child) })
}

fn settings(plan: &Plan, kind: Kind, addresses: [SocketAddr; 4], dir: &Path) -> Vec<String> {
    let [http, admin, mqtt, broker] = addresses;
    let connections = (plan.viewers + plan.silent).div_ceil(plan.server_processes) + SPARE;
    let own = [
        format!("ingest.listen={http}"),
        format!("service.admin_listen={admin}"),
        format!("log.embedded.dir={}", dir.join("data").display()),
        format!("aggregator.interval_ms={}", plan.interval.as_millis()),
        format!("fanout.max_viewers={connections}"),
        // All viewers come from a few addresses of this machine.
        "fanout.max_viewers_per_address=0".to_owned(),
        format!("fanout.mqtt.enabled={}", kind == Kind::Uproar),
        format!("fanout.mqtt.listen={mqtt}"),
        format!("fanout.broker.enabled={}", kind == Kind::Rumqttd),
        format!("fanout.broker.listen={broker}"),
        format!("fanout.broker.max_connections={connections}"),
        "log_output.level=warn,rumqttd=off".to_owned(),
    ];
    // Later ones win.
    own.into_iter().chain(plan.set.iter().cloned()).collect()
}
