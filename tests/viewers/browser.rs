//! A browser's WebSocket and EventSource: headless Chromium on `page.html`, which says on its console what it gets.

use super::{plan, react, script};
use crate::harness::{
    process::{Uproar, tool},
    wait::PATIENCE,
};
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// A page in a browser of its own. Killed when dropped.
struct Page {
    _browser: Child,
    console: Lines<BufReader<ChildStderr>>,
}

impl Page {
    fn open(uproar: &Uproar, kind: &str, profile: &Path) -> Self {
        let page = format!("file://{}#{},final,{kind}", script("page.html").display(), uproar.http);
        let mut command = Command::new("chromium");
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        // A page of a file may talk to this machine.
        command.arg("--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets");
        command
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(["--enable-logging=stderr", &page]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut browser = command.kill_on_drop(true).spawn().unwrap();
        let console = BufReader::new(browser.stderr.take().unwrap()).lines();
        Self { _browser: browser, console }
    }

    /// The next thing that the page said.
    async fn said(&mut self) -> String {
        let look = async {
            loop {
                let line = self.console.next_line().await.unwrap().expect("the browser has ended");
                // […:INFO:CONSOLE:12] "text", source: file://… (12)
                if line.contains("CONSOLE")
                    && let Some((_, rest)) = line.split_once("] \"")
                    && let Some((text, _)) = rest.rsplit_once("\", source: ")
                {
                    return text.to_owned();
                }
            }
        };
        timeout(PATIENCE, look).await.expect("the page says nothing more")
    }

    async fn frame(&mut self) -> Value {
        let said = self.said().await;
        let message: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        message["frame"].clone()
    }
}

#[tokio::test]
async fn a_browser_gets_frames_over_its_websocket() {
    if tool("chromium", "apt-get install chromium").is_none() {
        return;
    }
    let (dir, profile) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut uproar = plan(&dir).start().await;
    let mut page = Page::open(&uproar, "websocket", profile.path());
    assert_eq!(page.said().await, "subscribed");
    react(&uproar).await;
    assert_eq!(page.frame().await["counts"]["🔥"], 3);
    assert_eq!(page.frame().await["count"], 0);
    uproar.stop();
    assert_eq!(page.said().await, "closed 1012");
}

#[tokio::test]
async fn a_browser_gets_frames_over_its_event_source_and_comes_back_by_itself() {
    if tool("chromium", "apt-get install chromium").is_none() {
        return;
    }
    let (dir, profile) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = plan(&dir).set("fanout.reconnect_jitter_ms=100");
    let mut uproar = plan.start().await;
    react(&uproar).await;
    crate::end_to_end::until_total(&uproar.http, "final", 3).await;
    let mut page = Page::open(&uproar, "events", profile.path());
    assert_eq!(page.said().await, "subscribed");
    let id = page.said().await;
    let mut frame = page.frame().await;
    assert_eq!(id, format!("id {}-{}", frame["since"], frame["seq"]));
    uproar.stop();
    uproar = plan.start().await;
    react(&uproar).await;
    // It says that it is broken, that it is subscribed again, and what comes.
    while frame["total"] != 6 {
        let said = page.said().await;
        if said.starts_with('{') {
            frame = serde_json::from_str::<Value>(&said).unwrap()["frame"].clone();
        }
    }
    uproar.stop();
}
