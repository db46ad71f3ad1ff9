//! Serving a router until told to stop.

use axum::Router;
use std::io;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Binds `address`; the error names it.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}; is another process there?"))
    })
}

/// Serves `router` until `shutdown`; then accepts nobody, and returns when the requests under way are answered.
/// Connections that were upgraded are not waited for.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    use axum::serve::ListenerExt;
    // Answers are small and must not wait for more (Nagle).
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
