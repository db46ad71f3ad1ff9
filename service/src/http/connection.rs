//! One connection: requests in, answers out, until either side has enough.

use super::{
    App, Config,
    activity::{Activity, Leave},
    body::Answering,
    short::{End, Short},
    socket::Socket,
};
use crate::Problem;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::{Request, Version, service::service_fn};
use hyper_util::{rt::TokioExecutor, server::conn::auto::Builder};
use socket2::SockRef;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::net::TcpStream;

/// A peer that takes nothing of what it was sent for so long is gone, unless its listener says otherwise. Of a connection that
/// rests nothing is under way: it is found by the worker. No pings are sent: they would wake phones, and count as something
/// that moves.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// How connections are served.
pub(super) fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let buffer = config.max_header_bytes as usize;
    // The deadline for heads is kept by the worker: a timer for each request costs 0.7 us. Writes are vectored: to put short
    // answers together is cheaper by 0.5 us, but then a part of a body is dropped when it is copied, not when the socket has
    // taken it, and who makes a stream can't know how much waits. Plain requests don't come here.
    builder.http1().header_read_timeout(None).max_buf_size(buffer);
    builder
        .http2()
        .max_header_list_size(config.max_header_bytes)
        .max_concurrent_streams(config.max_streams_per_connection);
    builder
}

/// Serves a connection to its end: the short way first, and then with the HTTP library.
pub(super) async fn serve<A: App>(mut short: Short<A>, builder: Arc<Builder<TokioExecutor>>) {
    let activity = Arc::clone(&short.activity);
    let end = attend(&activity, pin!(short.serve()), |_| {}).await;
    match end {
        // Boxed: it takes more memory than the short way.
        Some(End::Unusual) => Box::pin(serve_long(short, &builder)).await,
        Some(End::Taken(taker)) => match short.stream.into_std() {
            Ok(stream) => taker.take(stream, short.kept.freeze()),
            Err(error) => tracing::debug!(%error, "a socket could not be given away"),
        },
        Some(End::Closed) | None => {}
    }
}

async fn serve_long<A: App>(short: Short<A>, builder: &Builder<TokioExecutor>) {
    let Short { app, stream, peer, activity, kept, .. } = short;
    if let Err(error) = notice_who_is_gone(&stream) {
        tracing::debug!(%error, "a peer that is gone is noticed late");
    }
    let socket = Socket::new(stream, kept.freeze(), Arc::clone(&activity));
    let service = service_fn(|request: Request<_>| {
        let old = request.version() < Version::HTTP_2;
        let busy = activity.request(!old);
        let answer = names_its_host(&request).then(|| app.respond(request, peer));
        let activity = Arc::clone(&activity);
        async move {
            let mut answer = match answer {
                Some(answer) => answer.await,
                None => host_missing(),
            };
            if old && activity.leave().is_some() {
                // Not over that of an upgrade.
                answer.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Answering::new(body, busy)))
        }
    });
    let connection = pin!(builder.serve_connection_with_upgrades(socket, service));
    if let Some(Err(error)) = attend(&activity, connection, |connection| connection.graceful_shutdown()).await
    {
        tracing::trace!(%error, "a connection broke");
    }
}

/// The library leaves this check to others: HTTP/1.1 wants one Host, and nobody may have two (RFC 9112, section 3.2).
fn names_its_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    hosts == 1 || hosts == 0 && request.version() != Version::HTTP_11
}

fn host_missing() -> Response {
    let detail = "send one Host header, as HTTP/1.1 requires: there is none, or more than one";
    Problem::new(StatusCode::BAD_REQUEST, detail).into_response()
}

fn notice_who_is_gone(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    match socket.tcp_user_timeout()? {
        Some(_) => Ok(()),
        None => socket.set_tcp_user_timeout(Some(GONE_AFTER)),
    }
}

/// Polls a connection, until it ends or has to leave at once: `None`. If it is only asked to leave it is polled again, after
/// `leave`.
async fn attend<F: Future>(
    activity: &Activity,
    mut connection: Pin<&mut F>,
    leave: impl Fn(Pin<&mut F>),
) -> Option<F::Output> {
    let (mut seen, mut leaving) = (false, false);
    poll_fn(|context| {
        let first = !std::mem::replace(&mut seen, true);
        // It is this task that polls, and nobody else: once is enough, until it was asked. Then it may be asked once more.
        if first || activity.leave().is_some() {
            activity.register(context.waker());
        }
        match activity.leave() {
            Some(Leave::Now) => return Poll::Ready(None),
            Some(Leave::Gracefully) if !leaving => {
                leaving = true;
                // The library has to see what was read already, or it takes the connection for one without a request.
                if first && let Poll::Ready(end) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(end));
                }
                leave(connection.as_mut());
            }
            _ => {}
        }
        connection.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::{super::tests::rest, *};
    use crate::http::activity::Ticks;
    use axum::{Router, routing::get};
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    /// A connection of a server that stops, of which the first part of a request was read; and its peer.
    async fn stopping(part: &[u8]) -> (Short<Router>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let app = Router::new().route("/hi", get(|| async { "hi" }));
        let activity = Arc::new(Activity::new(Ticks::default()));
        activity.ask_to_leave(Leave::Gracefully);
        (Short { app, guest: (), stream, peer, activity, max_head: 16_384, kept: part.into() }, client)
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_gone_after_a_while_unless_its_listener_says_otherwise() {
        let (Short { stream, .. }, _client) = stopping(b"").await;
        let gone_after = || SockRef::from(&stream).tcp_user_timeout().unwrap();
        notice_who_is_gone(&stream).unwrap();
        assert_eq!(gone_after(), Some(GONE_AFTER));
        let listeners = Some(Duration::from_secs(7));
        SockRef::from(&stream).set_tcp_user_timeout(listeners).unwrap();
        notice_who_is_gone(&stream).unwrap();
        assert_eq!(gone_after(), listeners);
    }

    #[tokio::test]
    async fn a_stop_answers_a_request_that_is_on_its_way_whichever_way_it_takes() {
        let builder = Arc::new(builder(&Config::private()));
        let (part, more) = (b"GET /hi HTTP/1.1\r\nho", b"st: x\r\n\r\n");

        let (short, mut client) = stopping(part).await;
        client.write_all(more).await.unwrap();
        serve(short, Arc::clone(&builder)).await;
        let answer = rest(&mut client).await;
        assert!(answer.ends_with("hi") && answer.contains("connection: close"), "{answer}");

        // The rest comes when the library has it already.
        let (short, mut client) = stopping(part).await;
        let asks = async {
            client.write_all(more).await.unwrap();
            rest(&mut client).await
        };
        let ((), answer) = tokio::join!(serve_long(short, &builder), asks);
        assert!(answer.ends_with("hi") && answer.contains("connection: close"), "{answer}");
    }
}
