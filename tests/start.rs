//! How a process starts, or refuses to.

use crate::{
    api::raw,
    harness::process::{Plan, UPROAR, free_address},
};
use std::{
    fs,
    net::TcpListener,
    process::{Command, Output},
};

fn uproar(args: &[&str]) -> Output {
    Command::new(UPROAR).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_bad_configuration_gives_every_error_at_once_and_exit_code_2() {
    let output = uproar(&[
        "--set",
        "aggregator.interval_ms=1",
        "--set",
        "ingest.listn=x",
        "--set",
        "log.partitions=0",
    ]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for error in [
        "aggregator.interval_ms must be 100 to 60000, is 1",
        "ingest.listn is unknown",
        "log.partitions must",
    ] {
        assert!(errors.contains(error), "{error}: {errors}");
    }
}

#[test]
fn log_lines_that_can_not_be_written_end_nothing() {
    let (taken, dir) = (TcpListener::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    let admin = format!("service.admin_listen={}", taken.local_addr().unwrap());
    let data = format!("log.embedded.dir={}", dir.path().display());
    // Warns of drains, and then can't listen.
    let warned = ["--set", "service.stop_deadline_ms=1000", "--set", &admin, "--set", &data];
    for (args, code) in [(&warned[..], 1), (&["check-config", "--set", "x=1"], 2)] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let status = Command::new(UPROAR).args(args).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn every_option_of_kafka_that_is_wrong_is_an_error_of_the_configuration() {
    let options = ["log.kafka.options.acks=1", "log.kafka.options.sasl.pasword=secret"];
    let output = uproar(&["ingest", "--set", "log.kind=kafka", "--set", options[0], "--set", options[1]]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("log.kafka.options.acks may not be set"), "{errors}");
    assert!(errors.contains("log.kafka.options.sasl.pasword is refused by librdkafka"), "{errors}");
    assert!(!errors.contains("secret"), "{errors}");
}

#[test]
fn a_single_tier_on_the_embedded_log_is_refused() {
    let output = uproar(&["fanout"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("log.kind must be \"kafka\""), "{}", text(&output.stderr));
}

#[test]
fn check_config_tells_right_from_wrong() {
    assert!(uproar(&["check-config"]).status.success());
    assert_eq!(uproar(&["check-config", "--role", "ingest"]).status.code(), Some(2));
    assert!(uproar(&["check-config", "--role", "ingest", "--set", "log.kind=kafka"]).status.success());
}

#[test]
fn default_config_is_a_configuration_that_is_right() {
    let output = uproar(&["default-config"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &output.stdout).unwrap();
    assert!(uproar(&["check-config", "--config", file.path().to_str().unwrap()]).status.success());
}

#[tokio::test]
async fn a_second_process_on_the_same_data_says_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Plan::new("all", dir.path()).start().await;
    let mut second = Plan::new("all", dir.path()).named("second").spawn();
    assert_eq!(second.ended().code(), Some(1));
    let log = second.log();
    assert!(log.contains("another process") && log.contains("data"), "{log}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = Plan::new("all", dir.path()).start().await;
    let other = tempfile::tempdir().unwrap();
    let mut second = Plan::new("all", other.path()).set(format!("ingest.listen={}", first.http)).spawn();
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.log().contains(&format!("can't listen on {}", first.http)), "{}", second.log());
    let mut third = Plan::new("all", other.path())
        .named("third")
        .set(format!("fanout.mqtt.listen={}", first.mqtt))
        .spawn();
    assert_eq!(third.ended().code(), Some(1));
    let log = third.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains(&format!("can't listen on {}", first.mqtt)), "{log}");
    assert_eq!(last.matches("Address already in use").count(), 1, "{last}");
}

#[tokio::test]
async fn a_tier_waits_for_kafka_unready_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = free_address();
    let plan =
        Plan::new("ingest", dir.path()).set("log.kind=kafka").set(format!("log.kafka.brokers={nobody}"));
    let mut uproar = plan.spawn();
    uproar.until_log("waiting for the event log").await;
    let ready = crate::harness::http::get(&uproar.admin, "/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("log: "), "{}", ready.body);
    assert_eq!(crate::harness::http::get(&uproar.admin, "/healthz").await.unwrap().status, 200);
    uproar.stop();
}

#[test]
fn the_version_names_the_commit() {
    let output = uproar(&["--version"]);
    let version = text(&output.stdout);
    let commit = version.trim().strip_prefix(concat!("uproar ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    let commit = commit.strip_suffix(')').unwrap();
    let is_hash = commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A tarball has none.
    assert!(is_hash || commit == "unknown commit", "{version}");
}

#[tokio::test]
async fn listeners_answer_for_their_health_and_admin_only_to_its_own_names() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = Plan::new("all", dir.path()).set(r#"service.admin_hosts=["ops.example"]"#).start().await;
    for (address, path, body) in [
        (&uproar.http, "/healthz", "ok\n"),
        (&uproar.http, "/readyz", "ready\n"),
        // As proxies ask that add a slash.
        (&uproar.http, "/readyz/", "ready\n"),
        (&uproar.admin, "/readyz", "ready\n"),
    ] {
        let answer = crate::harness::http::get(address, path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    let metrics =
        |host: &str| raw::ask(&uproar.admin, &format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    assert_eq!(metrics("ops.example").status, 200);
    let refused = metrics("evil.example");
    assert_eq!((refused.status, refused.header("x-content-type-options")), (421, Some("nosniff")));
}

#[tokio::test]
async fn a_process_has_the_metrics_of_what_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = Plan::new("all", dir.path()).start().await;
    let metrics = crate::harness::http::get(&uproar.admin, "/metrics").await.unwrap().body;
    assert!(metrics.contains("uproar_fanout_rooms ") && metrics.contains("uproar_log_partitions_owned "));
    assert!(!metrics.contains("uproar_fanout_bridge_"), "the bridge is off: {metrics}");
    // A tier that waits for Kafka has its own already.
    let tiers =
        [("ingest", "uproar_ingest_"), ("aggregator", "uproar_aggregator_"), ("fanout", "uproar_fanout_")];
    for (role, own) in tiers {
        let plan = Plan::new(role, dir.path()).set("log.kind=kafka").set("log.kafka.brokers=127.0.0.1:1");
        let tier = plan.spawn();
        tier.until_log("waiting for the event log").await;
        let metrics = crate::harness::http::get(&tier.admin, "/metrics").await.unwrap().body;
        for (_, prefix) in tiers {
            assert_eq!(metrics.contains(prefix), prefix == own, "{role} {prefix}: {metrics}");
        }
        assert_eq!(metrics.contains("uproar_log_partitions_owned"), role == "aggregator", "{role}");
    }
}

#[tokio::test]
async fn a_secret_in_a_file_that_is_not_right_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("uproar.toml");
    let right = "[fanout.bridge]\npassword = \"hunter2\"\n[aggregator]\ninterval_ms = 400\n";
    fs::write(&file, right).unwrap();
    let uproar = Plan::new("all", dir.path()).config(&file).set("fanout.bridge.host=127.0.0.1");
    let uproar = uproar.set("fanout.bridge.username=u").set("fanout.bridge.enabled=true").start().await;
    for wrong in [
        right.replace("hunter2\"", "hunter2"),
        right.replace("\"hunter2\"", "hunter2"),
        right.replace("\"hunter2\"", "[\"hunter2\"]"),
        right.replace("password", "passwrd"),
    ] {
        let before = uproar.log().matches("configuration refused").count();
        fs::write(&file, &wrong).unwrap();
        uproar.signal(nix::sys::signal::Signal::SIGHUP);
        crate::harness::wait::until("the reload to be refused", async || {
            (uproar.log().matches("configuration refused").count() > before).then_some(())
        })
        .await;
        let output = uproar_with(&file);
        assert_eq!(output.status.code(), Some(2));
        for said in [text(&output.stderr), text(&output.stdout), uproar.log()] {
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

fn uproar_with(file: &std::path::Path) -> Output {
    uproar(&["check-config", "--config", file.to_str().unwrap()])
}
