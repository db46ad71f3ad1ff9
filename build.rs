//! Finds the commit that is built, for `--version`.

use std::{env, path::Path, process::Command};

fn main() {
    // Builds without the repository, such as those of an image, may give it.
    println!("cargo::rerun-if-env-changed=UPROAR_COMMIT");
    let given = env::var("UPROAR_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit).unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo::rustc-env=UPROAR_COMMIT={commit}");
}

/// The commit of the repository that this folder is the root of. `None`: a tarball, or no git.
fn commit() -> Option<String> {
    // A tarball that lies within another repository is not of that repository.
    if !Path::new(".git").exists() {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        // Cargo builds again and again for a file that is not there.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
