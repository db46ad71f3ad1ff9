//! The project's own rules, checked: who may import whom, how long a file may be, and that docs name what there is.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each crate may import of ours, and what it must not import at all.
const RULES: [(&str, &[&str], &[&str]); 8] = [
    ("uproar-wire", &[], &["tokio", "rdkafka", "axum"]),
    ("uproar-eventlog", &["uproar-wire"], &["axum", "rumqttd"]),
    ("uproar-service", &[], &["rdkafka"]),
    ("uproar-ingest", &["uproar-wire", "uproar-eventlog", "uproar-service"], &["rdkafka", "rumqttd"]),
    (
        "uproar-aggregator",
        &["uproar-wire", "uproar-eventlog", "uproar-service"],
        &["rdkafka", "rumqttd", "axum"],
    ),
    ("uproar-fanout", &["uproar-wire", "uproar-eventlog", "uproar-service"], &["rdkafka"]),
    ("loadgen", &["uproar-wire"], &["rdkafka", "rumqttd"]),
    (
        "uproar",
        &[
            "uproar-wire",
            "uproar-eventlog",
            "uproar-service",
            "uproar-ingest",
            "uproar-aggregator",
            "uproar-fanout",
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
        collect(&dir.join(folder), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
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
        collect(&root().join(pure), &mut files);
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

#[test]
fn every_metric_is_in_the_docs() {
    let docs = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut metrics = 0;
    for file in sources().iter().filter(|file| file.ends_with("metrics.rs")) {
        let text = fs::read_to_string(file).unwrap();
        for name in text.split('"').filter(|part| part.starts_with("uproar_")) {
            metrics += 1;
            assert!(docs.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        }
    }
    assert!(metrics > 20, "{metrics}");
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

#[test]
fn docs_link_only_to_what_is_there() {
    let mut pages = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "CHANGELOG.md".to_owned()];
    for dir in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{dir}/{name}"));
            }
        }
    }
    for page in pages {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = root().join(&page).parent().unwrap().join(target);
            assert!(path.exists(), "{page} links to {target}, which is not there");
        }
    }
}
