//! Serving HTTP/1.1 and HTTP/2 (with prior knowledge) until told to stop.
//!
//! One task accepts; each connection then lives on one of the `workers`, a thread with a runtime of its own, so that
//! a request never changes threads (docs/decisions/0007). `connection` hands requests to an [`App`]: first on the `short` way,
//! without the HTTP library, as long as they are `plain` (docs/decisions/0009), and then with it. `activity` is what a worker
//! knows of a connection, to cut those that say nothing, or not enough.

mod activity;
mod answer;
mod app;
mod body;
mod config;
mod connection;
mod offer;
mod pace;
mod plain;
mod short;
mod socket;
#[cfg(test)]
mod tests;
mod workers;

pub use answer::Answer;
pub use app::{App, Peer, answer, answer_events, answer_plain};
pub use body::RequestBody;
pub use config::Config;
pub use offer::Offer;
pub use plain::Plain;
pub use socket::into_socket;

use crate::{
    files,
    metrics::{HTTP_CONNECTIONS_CUT, HTTP_CONNECTIONS_REFUSED},
};
use std::{
    fmt,
    io::{self, Write as _},
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use workers::Workers;

/// The whole answer to a connection that is one too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\n\
x-content-type-options: nosniff\r\n\
retry-after: 1\r\n\
connection: close\r\n\
content-length: 104\r\n\r\n\
{\"status\":503,\"title\":\"Service Unavailable\",\"detail\":\"the server has no place for more connections now\"}";

/// Connections that may wait to be accepted, if net.core.somaxconn allows it. A crowd comes at once, and who finds no place
/// tries again after a second only; the 128 of the standard library are too few for that.
const BACKLOG: u32 = 4_096;

/// Pause when the process can't accept, for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Failures to accept are logged once in this time.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Binds `address`; the error names it.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    listen(address).await.map_err(|error| cannot_listen(address, &error))
}

/// What the system said when a listener was to be bound, with its address and what to do. For all listeners of the process.
pub fn cannot_listen(address: impl fmt::Display, error: &io::Error) -> io::Error {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    let hint = if taken { "; is another process there?" } else { "" };
    io::Error::new(error.kind(), format!("can't listen on {address}: {error}{hint}"))
}

/// Listens on the first address of a name that can be bound.
async fn listen(name: &str) -> io::Result<TcpListener> {
    let mut result = Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"));
    for address in lookup_host(name).await? {
        result = listen_on(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart doesn't wait for connections of before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `app` until `shutdown`. Then takes the connections that wait to be accepted, closes the listener, and returns when
/// the requests under way are answered. Connections that were upgraded are not waited for.
///
/// # Errors
/// If a thread can't be started.
pub async fn serve(
    listener: TcpListener,
    app: impl App,
    config: Config,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let door = Door { workers: Workers::start(app, &config)?, config };
    let mut failures = AcceptFailures::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.let_in(stream, peer),
                // Gone before it was accepted (accept(2)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    failures.log(&error, Instant::now());
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = shutdown.cancelled() => break,
        }
    }
    door.let_in_backlog(listener);
    door.workers.leave().await;
    Ok(())
}

/// Where connections come in.
struct Door<A> {
    workers: Workers<A>,
    config: Config,
}

impl<A: App> Door<A> {
    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        let has_place = self.workers.connections() < self.config.max_connections
            && files::leaves(self.config.reserved_files, &stream);
        if !has_place {
            return refuse(stream);
        }
        if let Err(error) = self.workers.admit(stream, peer) {
            tracing::debug!(%error, "a connection was gone before it was served");
        }
    }

    /// Clients in the backlog are connected and may have sent a request. If the listener were only closed, the kernel would
    /// reset them, and they would not know what became of it.
    fn let_in_backlog(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..BACKLOG {
            // It doesn't block.
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // None is left, or there are no files for more.
                Err(_) => return,
            };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.let_in(stream, peer);
            }
        }
    }
}

/// Logs failures to accept, at most one line in a while: there may be twenty a second.
#[derive(Debug, Default)]
struct AcceptFailures {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl AcceptFailures {
    fn log(&mut self, error: &io::Error, now: Instant) {
        if let Some(unlogged) = self.is_due(now) {
            let hint = "raise the limit of open files (ulimit -n) if it is reached";
            tracing::warn!(%error, unlogged, "connections can't be accepted at the moment; {hint}");
        }
    }

    /// Whether a line is due, and how many failures had none since the last.
    fn is_due(&mut self, now: Instant) -> Option<u64> {
        if self.logged_at.is_some_and(|at| now.duration_since(at) < ACCEPT_LOG_INTERVAL) {
            self.unlogged += 1;
            return None;
        }
        self.logged_at = Some(now);
        Some(mem::take(&mut self.unlogged))
    }
}

/// Says that there is no place, if that fits into the socket, and closes.
fn refuse(stream: TcpStream) {
    metrics::counter!(HTTP_CONNECTIONS_REFUSED).increment(1);
    // It does: the socket is new.
    let _ = stream.into_std().and_then(|mut stream| stream.write(FULL));
}

/// Counts a connection that was closed by us.
fn count_cut(cause: &'static str) {
    metrics::counter!(HTTP_CONNECTIONS_CUT, "cause" => cause).increment(1);
}
