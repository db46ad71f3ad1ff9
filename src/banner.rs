//! What a person sees at the start: where everything is, and a line to try.

use crate::{
    cli::{Role, VERSION},
    config::Config,
};
use std::time::Duration;

/// The start goes on after this where nobody reads standard output.
const PATIENCE: Duration = Duration::from_millis(200);

/// Prints where everything is to standard output. `http` is the bound address of each public listener.
pub(crate) fn print(role: Role, config: &Config, http: Option<std::net::SocketAddr>) {
    service::print(service::Stream::Out, text(role, config, http), PATIENCE);
}

fn text(role: Role, config: &Config, http: Option<std::net::SocketAddr>) -> String {
    let mut lines = vec![format!("uproar {VERSION}, {}", role.name())];
    let base = http.map(|address| format!("http://{}", reachable(address)));
    if let Some(base) = &base {
        lines.push(format!("  HTTP       {base}/v1/rooms/ROOM/..."));
        if matches!(role, Role::All | Role::Fanout) && config.fanout.web {
            lines.push(format!("  page       {base}/"));
        }
    }
    if matches!(role, Role::All | Role::Fanout) {
        let fanout = &config.fanout;
        if fanout.mqtt.enabled {
            let address =
                fanout.mqtt.listen.parse().map_or(fanout.mqtt.listen.clone(), |a| reachable(a).to_string());
            lines.push(format!("  MQTT       mqtt://{address}   topic reactions/ROOM"));
        }
        if fanout.broker.enabled {
            lines.push(format!("  broker     mqtt://{}   for trusted clients", fanout.broker.listen));
        }
    }
    lines.push(format!(
        "  admin      http://{}   the desk, /metrics /healthz /readyz",
        config.service.admin_listen
    ));
    lines.push(format!("  event log  {}", log_place(config)));
    lines.push(format!("  windows    {} ms", config.aggregator.interval_ms));
    if let (Role::All | Role::Ingest, Some(base)) = (role, &base) {
        lines.push("\ntry:".into());
        lines.push(format!(
            "  curl -i -H 'content-type: application/json' -d '{{\"reaction\":\"🔥\"}}' {base}/v1/rooms/demo/reactions"
        ));
    }
    if let (Role::All, Some(base)) = (role, &base) {
        lines.push(format!("  curl {base}/v1/rooms/demo"));
    }
    lines.join("\n") + "\n\n"
}

fn log_place(config: &Config) -> String {
    match config.log.kind {
        eventlog::LogKind::Embedded => format!("embedded, in {}", config.log.embedded.dir.display()),
        eventlog::LogKind::Kafka => format!("kafka at {}", config.log.kafka.brokers),
    }
}

/// An address to connect to: a listener on all addresses is reached on loopback.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}
