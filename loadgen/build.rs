//! Tells the program which commit it is built from, for its reports.
//!
//! `UPROAR_COMMIT` names it where there is no repository, as in an image or a tarball. Otherwise git is asked. Without either
//! it is `unknown`.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=UPROAR_COMMIT");
    // A path that is missing would run this at every build.
    for path in ["../.git/HEAD", "../.git/logs/HEAD"].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let named = env::var("UPROAR_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = named.or_else(ask_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=LOADGEN_COMMIT={commit}");
}

fn ask_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
