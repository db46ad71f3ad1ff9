//! The yardstick: what any axum server pays to answer a POST, as its documentation says to write one. It doesn't even
//! read the body.

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::post, serve::ListenerExt as _};
use std::{io::Read as _, net::SocketAddr};
use tokio::net::TcpListener;

/// Serves until standard input is closed.
pub(crate) fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(listen));
    let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
    // Ends with the process.
    std::thread::spawn(move || runtime.block_on(serve(listener)));
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let router = Router::new().route("/v1/rooms/{room}/reactions", post(async || StatusCode::ACCEPTED));
    let listener = listener.tap_io(|stream| {
        // A socket that is gone already.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}
