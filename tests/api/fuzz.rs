//! schemathesis: requests that are right, and requests that are wrong, made up from the document of the API.

use super::{file, tools, with_a_frame};
use std::{env, process::Command};

/// Examples for each operation in the ordinary run.
const EXAMPLES: &str = "60";
/// Makes the long form repeatable, and the ordinary run the same every time.
const SEED: &str = "1";

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = with_a_frame(&dir).await;
    let examples = env::var("UPROAR_API_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let seed = env::var("UPROAR_SEED").unwrap_or_else(|_| SEED.to_owned());
    let mut command = Command::new(tools.join("python/bin/schemathesis"));
    command.current_dir(dir.path()).env("SCHEMATHESIS_HOOKS", file("hooks.py"));
    command.arg("--config-file").arg(file("schemathesis.toml"));
    command.args(["run", &format!("http://{}/openapi.json", uproar.http)]);
    command.args(["--mode", "all", "--max-examples", &examples, "--seed", &seed]);
    command.args(["--request-timeout", "30", "--generation-database", "none"]);
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // That all were tried, and the answers' schemas too.
    assert!(said.contains("Operations:       7 selected / 8 total"), "{said}");
    for phase in ["✅ Examples", "✅ Coverage", "✅ Fuzzing"] {
        assert!(said.contains(phase), "{said}");
    }
    uproar.stop();
}
