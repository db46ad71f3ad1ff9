//! `compose.yaml` and `Dockerfile`, checked without an engine: they parse, and agree with the binary.

use crate::harness::process::UPROAR;
use std::{collections::BTreeMap, fs, path::Path, process::Command};
use yaml_serde::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn parse(path: &str) -> Value {
    let mut value: Value = yaml_serde::from_str(&read(path)).unwrap();
    value.apply_merge().unwrap();
    value
}

/// The services that run our image, by role.
fn tiers(compose: &Value) -> BTreeMap<String, Value> {
    let services = compose["services"].as_mapping().unwrap();
    let ours = services.iter().filter(|(_, service)| service["image"].as_str() == Some("uproar"));
    ours.map(|(_, service)| (service["command"][0].as_str().unwrap().to_owned(), service.clone())).collect()
}

fn environment(service: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    service["environment"].as_mapping().unwrap().iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn container_ports(service: &Value) -> Vec<String> {
    let ports = service["ports"].as_sequence();
    let port = |entry: &Value| entry.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    ports.map(|ports| ports.iter().map(port).collect()).unwrap_or_default()
}

#[test]
fn every_tier_is_there_and_its_configuration_is_right() {
    let compose = parse("compose.yaml");
    let tiers = tiers(&compose);
    assert_eq!(tiers.keys().map(String::as_str).collect::<Vec<_>>(), ["aggregator", "fanout", "ingest"]);
    for (role, service) in &tiers {
        let mut check = Command::new(UPROAR);
        check.args(["check-config", "--role", role]).envs(environment(service));
        let output = check.output().unwrap();
        assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
        let kinds: Vec<_> =
            environment(service).into_iter().filter(|(key, _)| key == "UPROAR__LOG__KIND").collect();
        assert_eq!(kinds[0].1, "kafka", "{role}");
    }
}

#[test]
fn one_service_builds_the_image_that_all_tiers_use() {
    let tiers = tiers(&parse("compose.yaml"));
    let builders = tiers.values().filter(|service| !service["build"].is_null()).count();
    // Builds of several services run at once. On a clean machine all but the first fail to export the same tag.
    assert_eq!(builders, 1, "services with `build:`");
    for (role, service) in &tiers {
        assert_eq!(service["pull_policy"].as_str(), Some("never"), "{role} may ask a registry for `uproar`");
    }
}

#[test]
fn published_ports_are_open_to_this_machine_only() {
    let compose = parse("compose.yaml");
    let services = compose["services"].as_mapping().unwrap();
    let ports: Vec<_> =
        services.iter().filter_map(|(_, service)| service["ports"].as_sequence()).flatten().collect();
    assert!(ports.len() > 3, "{ports:?}");
    for port in ports {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{port:?}");
    }
}

#[test]
fn published_ports_are_those_that_the_binary_listens_on() {
    let defaults: toml::Table = read("config/default.toml").parse().unwrap();
    let port =
        |section: &str| defaults[section]["listen"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let tiers = tiers(&parse("compose.yaml"));
    assert_eq!(container_ports(&tiers["ingest"]), [port("ingest")]);
    let mqtt = defaults["fanout"]["mqtt"]["listen"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(container_ports(&tiers["fanout"]), [port("fanout"), mqtt.clone()]);
    let exposed = read("Dockerfile");
    for port in [port("ingest"), port("fanout"), mqtt] {
        assert!(exposed.lines().any(|line| line.starts_with("EXPOSE") && line.contains(&port)), "{port}");
    }
}

#[test]
fn tiers_wait_for_a_kafka_that_answers_and_say_when_they_are_ready() {
    let compose = parse("compose.yaml");
    assert!(compose["services"]["kafka"]["healthcheck"]["test"].is_sequence());
    for (role, service) in tiers(&compose) {
        assert_eq!(service["depends_on"]["kafka"]["condition"].as_str(), Some("service_healthy"), "{role}");
        let test: Vec<_> = service["healthcheck"]["test"]
            .as_sequence()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect();
        let admin = environment(&service)
            .into_iter()
            .find(|(key, _)| key == "UPROAR__SERVICE__ADMIN_LISTEN")
            .unwrap()
            .1;
        let port = admin.rsplit(':').next().unwrap();
        assert_eq!(test.last(), Some(&format!("http://127.0.0.1:{port}/readyz").as_str()), "{role}");
    }
}

#[test]
fn a_tier_that_is_stopped_is_not_killed_before_its_own_deadline() {
    let defaults: toml::Table = read("config/default.toml").parse().unwrap();
    let deadline_ms = defaults["service"]["stop_deadline_ms"].as_integer().unwrap();
    for (role, service) in tiers(&parse("compose.yaml")) {
        let grace = service["stop_grace_period"].as_str().unwrap_or("10s");
        let grace_s: i64 = grace.strip_suffix('s').unwrap().parse().unwrap();
        assert!(grace_s * 1_000 > deadline_ms, "{role}: {grace}, and {deadline_ms} ms");
        let own =
            environment(&service).into_iter().find(|(key, _)| key == "UPROAR__SERVICE__STOP_DEADLINE_MS");
        assert_eq!(own, None, "{role} has the default");
    }
}

#[test]
fn mounted_files_exist_and_parse() {
    let compose = parse("compose.yaml");
    let services = compose["services"].as_mapping().unwrap();
    let volumes = services.iter().filter_map(|(_, service)| service["volumes"].as_sequence()).flatten();
    let mounted: Vec<_> = volumes.filter_map(|volume| volume.as_str().unwrap().strip_prefix("./")).collect();
    assert!(!mounted.is_empty());
    for volume in mounted {
        let file = volume.split(':').next().unwrap();
        // JSON is YAML.
        let parsed: Result<Value, _> = yaml_serde::from_str(&read(file));
        assert!(parsed.is_ok(), "{file}: {parsed:?}");
    }
    let scraped = parse("ops/prometheus.yml");
    let names = scraped["scrape_configs"][0]["dns_sd_configs"][0]["names"].as_sequence().unwrap().clone();
    for name in names {
        assert!(!compose["services"][name.as_str().unwrap()].is_null(), "{name:?}");
    }
}

#[test]
fn prometheus_is_given_the_alerts_and_names_the_tiers() {
    let scraped = parse("ops/prometheus.yml");
    let rules: Vec<_> =
        scraped["rule_files"].as_sequence().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(rules, ["alerts.yml"]);
    let volumes = parse("compose.yaml")["services"]["prometheus"]["volumes"].as_sequence().unwrap().clone();
    let mount = "./ops/alerts.yml:/etc/prometheus/alerts.yml:ro";
    assert!(volumes.iter().any(|volume| volume.as_str() == Some(mount)), "{volumes:?}");
    let relabel = &scraped["scrape_configs"][0]["relabel_configs"][0];
    assert_eq!(relabel["source_labels"][0].as_str(), Some("__meta_dns_name"));
    assert_eq!(relabel["target_label"].as_str(), Some("tier"));
}

#[test]
fn the_image_runs_as_nobody_special_and_has_both_binaries() {
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.lines().any(|line| line == "USER uproar"));
    assert!(dockerfile.contains("/usr/local/bin/uproar") && dockerfile.contains("/usr/local/bin/loadgen"));
    assert!(dockerfile.lines().any(|line| line == r#"ENTRYPOINT ["uproar"]"#));
}

#[test]
fn the_image_is_built_with_the_compiler_that_the_gate_uses() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let from = format!("FROM rust:{}-", toolchain["toolchain"]["channel"].as_str().unwrap());
    assert!(read("Dockerfile").lines().any(|line| line.starts_with(&from)), "no line begins with {from}");
    // The image has this compiler already. The file would make rustup fetch lints that no image needs.
    assert!(read(".dockerignore").lines().any(|line| line == "rust-toolchain.toml"));
}

/// The names of metrics in `text`.
fn metrics_in(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("uproar_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name)).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let docs = read("docs/metrics.md");
    for page in ["ops/grafana/uproar.json", "ops/alerts.yml"] {
        let text = read(page);
        let asked = metrics_in(&text);
        assert!(asked.len() > 10, "{page}: {asked:?}");
        for name in asked {
            assert!(docs.contains(&format!("`{name}`")), "{page} asks for {name}");
        }
    }
}

#[test]
fn the_alerts_ask_for_label_values_that_exist() {
    let (docs, alerts) = (read("docs/metrics.md"), read("ops/alerts.yml"));
    let mut asked = 0;
    for selector in alerts.split("uproar_").skip(1) {
        let Some((name, rest)) = selector.split_once('{') else { continue };
        let (name, labels) = (format!("uproar_{name}"), rest.split('}').next().unwrap());
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let Some(row) = row else { continue };
        // Statuses of HTTP are numbers, which the docs don't list.
        for values in labels.split('"').skip(1).step_by(2).filter(|_| !labels.starts_with("status")) {
            for value in values.split('|') {
                asked += 1;
                assert!(row.contains(&format!("`{value}`")), "{name} has no label value {value}");
            }
        }
    }
    assert!(asked > 10, "{asked}");
}

#[test]
fn limits_that_the_alerts_repeat_are_the_defaults() {
    let defaults: toml::Table = read("config/default.toml").parse().unwrap();
    let alerts = read("ops/alerts.yml");
    let repeated: Vec<_> = alerts.lines().filter_map(|line| line.split_once(" # (*) ")).collect();
    assert_eq!(repeated.len(), 2, "{repeated:?}");
    for (expr, key) in repeated {
        let (section, key) = key.split_once('.').unwrap();
        let limit = defaults[section][key].as_integer().unwrap().to_string();
        assert_eq!(expr.split(' ').next_back(), Some(limit.as_str()), "{section}.{key}");
    }
}
