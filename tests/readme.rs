//! What README.md tells people to type, typed.

use crate::{end_to_end::until_total, harness::process::Plan};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// The fenced blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn line_with(blocks: &[String], needle: &str) -> String {
    let line = blocks.iter().flat_map(|block| block.lines()).find(|line| line.contains(needle));
    line.unwrap_or_else(|| panic!("README.md has no line with {needle}")).to_owned()
}

#[tokio::test]
async fn the_post_of_the_readme_is_accepted_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = Plan::new("all", dir.path()).set("aggregator.interval_ms=200").start().await;
    let curl = line_with(&blocks("sh"), "/reactions").replace("127.0.0.1:8080", &uproar.http);
    let output = Command::new("sh").args(["-c", &curl]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("202 Accepted") && said.contains(r#"{"accepted":1}"#), "{curl}\n{said}");
    until_total(&uproar.http, "demo", 1).await;
}

#[test]
fn the_run_and_test_commands_are_those_that_ci_runs() {
    let ci = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).unwrap();
    let shell = blocks("sh");
    let test = line_with(&shell, "cargo test");
    assert!(ci.lines().any(|line| line.trim() == test.trim()), ".ci/run does not run `{test}`");
    line_with(&shell, "cargo run --release");
}

#[test]
fn the_tiers_can_be_started_beside_each_other() {
    let (shell, mut admin) = (blocks("sh"), BTreeSet::new());
    for tier in ["ingest", "aggregator", "fanout"] {
        let line = line_with(&shell, &format!("uproar {tier} --config uproar.toml"));
        let set = line.split_once("--set service.admin_listen=").map_or("127.0.0.1:9090", |(_, set)| set);
        assert!(admin.insert(set.to_owned()), "{line}: another tier has this admin port");
        let mut check = Command::new(crate::harness::process::UPROAR);
        check.args(["check-config", "--role", tier, "--set", "log.kind=kafka"]);
        let output = check.args(["--set", &format!("service.admin_listen={set}")]).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_files_that_the_readme_shows_are_right() {
    for block in blocks("toml") {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &block).unwrap();
        let mut check = Command::new(crate::harness::process::UPROAR);
        let output = check.args(["check-config", "--config"]).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
