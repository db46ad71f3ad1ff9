//! The project's own rules, checked: who may import whom, how long a file may be, and that docs name what there is.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What each crate may import of ours, and what it must not import at all.
const RULES: [(&str, &[&str], &[&str]); 11] = [
    ("uproar-web", &[], &["rdkafka", "rumqttd", "serde"]),
    ("uproar-wire", &[], &["tokio", "rdkafka", "axum"]),
    ("uproar-eventlog", &["uproar-wire"], &["axum", "rumqttd"]),
    ("uproar-service", &[], &["rdkafka"]),
    ("uproar-control", &["uproar-wire", "uproar-eventlog", "uproar-service"], &["rdkafka", "rumqttd"]),
    (
        "uproar-ingest",
        &["uproar-wire", "uproar-eventlog", "uproar-service", "uproar-control"],
        &["rdkafka", "rumqttd"],
    ),
    (
        "uproar-aggregator",
        &["uproar-wire", "uproar-eventlog", "uproar-service"],
        &["rdkafka", "rumqttd", "axum"],
    ),
    ("uproar-fanout", &["uproar-wire", "uproar-eventlog", "uproar-service", "uproar-control"], &["rdkafka"]),
    (
        "uproar-history",
        &["uproar-wire", "uproar-eventlog", "uproar-service"],
        &["rdkafka", "rumqttd", "rusqlite"],
    ),
    ("loadgen", &["uproar-wire"], &["rdkafka", "rumqttd"]),
    (
        "uproar",
        &[
            "uproar-wire",
            "uproar-eventlog",
            "uproar-service",
            "uproar-control",
            "uproar-ingest",
            "uproar-aggregator",
            "uproar-fanout",
            "uproar-history",
            "uproar-web",
        ],
        &["rdkafka", "rumqttd"],
    ),
];

const FILE_LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn imports(package: &Package) -> Vec<String> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.clone()).collect()
}

fn sources() -> Vec<PathBuf> {
    metadata().packages.iter().flat_map(sources_of).collect()
}

fn sources_of(package: &Package) -> Vec<PathBuf> {
    let dir = package.manifest_path.parent().unwrap().as_std_path();
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&dir.join(folder), "rs", &mut found);
    }
    found
}

/// Adds the files below `dir` that have this extension.
fn collect(dir: &Path, wanted: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, wanted, found);
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            found.push(path);
        }
    }
}

#[test]
fn every_crate_imports_only_what_it_may() {
    let packages = metadata().packages;
    assert_eq!(packages.len(), RULES.len(), "a crate without a rule, or a rule without a crate");
    for package in &packages {
        let (_, may, must_not) = RULES.iter().find(|(name, ..)| *name == package.name.as_str()).unwrap();
        for import in imports(package) {
            let ours = packages.iter().any(|other| other.name.as_str() == import);
            assert!(!ours || may.contains(&import.as_str()), "{} may not import {import}", package.name);
            assert!(!must_not.contains(&import.as_str()), "{} may not import {import}", package.name);
        }
    }
}

/// Features are per build: `--workspace` lets one package profit from what another one asks for, `-p` does not.
#[test]
fn the_load_generator_builds_without_openssl() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--offline", "--prefix", "none", "--package", "loadgen"]);
    let output = tree.current_dir(root()).output().unwrap();
    let packages = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(packages.contains("rumqttc "), "{packages}");
    assert!(!packages.contains("openssl-sys "), "{packages}");
}

#[test]
fn no_crate_imports_what_it_does_not_name() {
    for package in &metadata().packages {
        let texts: Vec<_> =
            sources_of(package).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        for import in &package.dependencies {
            let name = import.rename.as_ref().unwrap_or(&import.name).replace('-', "_");
            let is_named = texts.iter().any(|text| text.contains(&format!("{name}::")));
            assert!(is_named, "{} imports {name}, and no code names it", package.name);
        }
    }
}

#[test]
fn pure_cores_know_no_runtime_and_no_clock() {
    for pure in ["aggregator/src/core", "wire/src"] {
        let mut files = Vec::new();
        collect(&root().join(pure), "rs", &mut files);
        assert!(!files.is_empty(), "{pure}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for word in ["tokio", "std::time", "eventlog::", "std::net", "std::fs"] {
                assert!(!text.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not start with //!", file.display());
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{} has {lines} lines, {FILE_LINES_MAX} are the most",
            file.display()
        );
    }
}

/// The metrics that the code has, as the docs should tell of them: lines of a table.
fn metrics() -> Vec<String> {
    let mut rows = Vec::new();
    for file in sources().iter().filter(|file| file.ends_with("metrics.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let mut comment = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("///") {
                comment.push(words.trim());
            } else if line.contains(": &str =") && !line.ends_with(';') {
                // Its name is on the next line.
            } else {
                let name = line.split('"').nth(1).filter(|name| name.starts_with("uproar_"));
                let is_named_here = line.starts_with("pub const") || line.starts_with('"');
                if let Some(name) = name.filter(|_| is_named_here) {
                    rows.push(format!("| `{name}` | {} |", comment.join(" ")));
                }
                comment.clear();
            }
        }
    }
    rows
}

#[test]
fn the_docs_say_of_each_metric_what_the_code_says() {
    let docs = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (metrics, rows) = (metrics(), docs.lines().filter(|line| line.starts_with("| `uproar_")));
    for row in &metrics {
        assert!(docs.lines().any(|line| line == row), "docs/metrics.md lacks this line:\n{row}");
    }
    assert_eq!(rows.count(), metrics.len(), "docs/metrics.md has metrics that are none");
    assert!(metrics.len() > 20, "{}", metrics.len());
}

#[test]
fn docs_name_metrics_and_keys_that_exist() {
    let metrics = metrics().concat();
    let defaults = fs::read_to_string(root().join("config/default.toml")).unwrap();
    let defaults: toml::Value = toml::from_str(&defaults).unwrap();
    let known = |path: &str| path.split('.').try_fold(&defaults, |value, key| value.get(key)).is_some();
    let mut named = 0;
    // What was measured, decided or changed once may name what is gone.
    for page in pages().iter().filter(|page| !page.contains("performance") && *page != "CHANGELOG.md") {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let name = word.split(['{', ' ', '=']).next().unwrap();
            let section = name.split('.').next().unwrap();
            let is_key = name.contains('.') && known(section);
            let is_metric = name.starts_with("uproar_") && name.matches('_').count() > 1;
            named += usize::from(is_key || is_metric);
            assert!(!is_key || known(name), "{page} names {name}, which is no key");
            assert!(
                !is_metric || metrics.contains(&format!("`{name}`")),
                "{page} names {name}, which is no metric"
            );
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn tests_that_the_docs_name_exist() {
    let texts: Vec<_> = sources().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for name in text.split("(test `").skip(1).filter_map(|rest| rest.split('`').next()) {
            named += 1;
            let exists = texts.iter().any(|text| text.contains(&format!("fn {name}(")));
            assert!(exists, "{page} names the test {name}, which does not exist");
        }
    }
    assert!(named > 0);
}

#[test]
fn every_key_of_the_defaults_has_a_comment() {
    let text = fs::read_to_string(root().join("config/default.toml")).unwrap();
    let mut commented = false;
    for line in text.lines() {
        let is_key =
            line.split_once(" = ").is_some_and(|(key, _)| !key.starts_with('#') && !key.contains(' '));
        assert!(!is_key || commented, "no comment above: {line}");
        // A run of keys may share the comment above the first.
        commented = line.starts_with('#') || (is_key && commented);
    }
}

/// What is written for people: the pages at the root, and all below `docs`. Paths are relative to the root.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join("docs"), "md", &mut found);
    let at_the_root = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    found.extend(at_the_root.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    found.iter().map(relative).collect()
}

#[test]
fn every_page_below_docs_is_checked() {
    let pages = pages();
    for page in ["README.md", "SECURITY.md", "docs/api.md", "docs/decisions/README.md"] {
        assert!(pages.iter().any(|found| found == page), "{page} is not among {pages:?}");
    }
}

/// Whether `text` has a heading that links call `anchor`.
fn has_heading(text: &str, anchor: &str) -> bool {
    let called = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| called(line.trim_start_matches('#').trim())).any(|heading| heading == anchor)
}

#[test]
fn docs_link_only_to_what_is_there() {
    for page in pages() {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = root().join(&page);
            let path = if target.is_empty() { beside } else { beside.parent().unwrap().join(target) };
            assert!(path.exists(), "{page} links to {target}, which is not there");
            let is_there = anchor.is_empty() || has_heading(&fs::read_to_string(path).unwrap(), anchor);
            assert!(is_there, "{page} links to {link}, where no heading is called so");
        }
    }
}
