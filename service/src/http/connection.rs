//! One connection: requests in, answers out, until either side has enough.

use super::{
    App, Config,
    activity::{Activity, Leave},
    answer::NOSNIFF,
    body::{Answering, ChunkedEnd, RequestBody},
    plain::is_host,
    short::{End, Short},
    socket::Socket,
};
use crate::Problem;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::{
    Request, Version,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioExecutor;
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
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// A peer that takes nothing of what it was sent for so long is gone, unless its listener says otherwise. Of a connection that
/// rests nothing is under way: it is found by the worker. No pings are sent: they would wake phones, and count as something
/// that moves.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// How the HTTP library serves connections.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(config: &Config) -> Self {
        let mut http1 = http1::Builder::new();
        let head = config.max_header_bytes as usize;
        // The deadline for heads is kept by the worker: a timer for each request costs 0.7 us. Writes are vectored: to put
        // short answers together is cheaper by 0.5 us, but then a part of a body is dropped when it is copied, not when the
        // socket has taken it, and who makes a stream can't know how much waits. Plain requests don't come here.
        http1.header_read_timeout(None).max_buf_size(head).max_header_size(head);
        // A client that has ended its side still waits for the answer (RFC 9112, section 9.6).
        http1.half_close(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .max_header_list_size(config.max_header_bytes)
            .max_concurrent_streams(config.max_streams_per_connection);
        Self { http1, http2 }
    }
}

/// Serves a connection to its end: the short way first, and then with the HTTP library.
pub(super) async fn serve<A: App>(mut short: Short<A>, protocols: Arc<Protocols>) {
    let activity = Arc::clone(&short.activity);
    let end = attend(&activity, pin!(short.serve()), |_| {}).await;
    match end {
        // Boxed: it takes more memory than the short way.
        Some(End::Unusual) => Box::pin(serve_long(short, &protocols)).await,
        Some(End::Taken(taker)) => match short.stream.into_std() {
            Ok(stream) => taker.take(stream, short.kept.freeze()),
            Err(error) => tracing::debug!(%error, "a socket could not be given away"),
        },
        Some(End::Closed) | None => {}
    }
}

async fn serve_long<A: App>(mut short: Short<A>, protocols: &Protocols) {
    let activity = Arc::clone(&short.activity);
    let is_http2 = attend(&activity, pin!(is_http2(&mut short)), |_| {}).await;
    let Some(Ok(is_http2)) = is_http2 else { return };
    let Short { app, stream, peer, kept, .. } = short;
    if let Err(error) = notice_who_is_gone(&stream) {
        tracing::debug!(%error, "a peer that is gone is noticed late");
    }
    let socket = Socket::new(stream, kept.freeze(), Arc::clone(&activity));
    let service = service_fn(|request: Request<_>| {
        let old = request.version() < Version::HTTP_2;
        let busy = activity.request(!old);
        let end = request.headers().contains_key(header::TRANSFER_ENCODING).then(ChunkedEnd::default);
        let answer = match refusal(&request) {
            None => Ok(app.respond(request.map(|body| RequestBody::new(body, end.clone())), peer)),
            Some(refused) => Err(refused),
        };
        let activity = Arc::clone(&activity);
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await,
                Err(refused) => refused,
            };
            answer.headers_mut().entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(NOSNIFF);
            let is_last = activity.leave().is_some() || end.is_some_and(|end| !end.is_clear());
            if old && is_last {
                // Not over that of an upgrade.
                answer.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Answering::new(body, busy)))
        }
    });
    let served = if is_http2 {
        let connection = pin!(protocols.http2.serve_connection(socket, service));
        attend(&activity, connection, |connection| connection.graceful_shutdown()).await
    } else {
        let connection = pin!(protocols.http1.serve_connection(socket, service).with_upgrades());
        attend(&activity, connection, |connection| connection.graceful_shutdown()).await
    };
    if let Some(Err(error)) = served {
        tracing::trace!(%error, "a connection broke");
    }
}

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection speaks HTTP/2. Reads on while it could be either.
async fn is_http2<A: App>(short: &mut Short<A>) -> io::Result<bool> {
    while short.kept.len() < PREFACE.len() && PREFACE.starts_with(&short.kept) {
        if short.stream.read_buf(&mut short.kept).await? == 0 {
            break;
        }
        short.activity.read();
    }
    Ok(short.kept.starts_with(PREFACE))
}

/// Why a request is refused before its app sees it: checks that the library leaves to others.
fn refusal<B>(request: &Request<B>) -> Option<Response> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    // HTTP/1.1 wants one Host, nobody may send two, and a value that can't be one is refused (RFC 9112, section 3.2).
    let refused = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => Some(HOST_COUNT),
        (_, Some(_)) => Some(HOST_COUNT),
        (Some(host), None) if !is_host(host.as_bytes()) => Some(HOST_INVALID),
        _ => None,
    };
    if let Some(detail) = refused {
        return Some(Problem::new(StatusCode::BAD_REQUEST, detail).into_response());
    }
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let (coding, second) = (codings.next()?, codings.next());
    if second.is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return None;
    }
    let mut refused = Problem::new(StatusCode::NOT_IMPLEMENTED, CODING_UNKNOWN).into_response();
    // Others may see another end of this body, so nothing is read behind it (RFC 9112, section 6.1).
    refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(refused)
}

const HOST_COUNT: &str = "send one Host header, as HTTP/1.1 requires: there is none, or more than one";
const HOST_INVALID: &str = "send a Host header of the form name:port or address:port, the port is optional";
const CODING_UNKNOWN: &str =
    "chunked is the only transfer coding that is understood, and it may be applied once";

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
        // The same task polls until the end: once is enough.
        if first {
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
        let protocols = Arc::new(Protocols::new(&Config::private()));
        let (part, more) = (b"GET /hi HTTP/1.1\r\nho", b"st: x\r\n\r\n");

        let (short, mut client) = stopping(part).await;
        client.write_all(more).await.unwrap();
        serve(short, Arc::clone(&protocols)).await;
        let answer = rest(&mut client).await;
        assert!(answer.ends_with("hi") && answer.contains("connection: close"), "{answer}");

        // The rest comes when the library has it already.
        let (short, mut client) = stopping(part).await;
        let asks = async {
            client.write_all(more).await.unwrap();
            rest(&mut client).await
        };
        let ((), answer) = tokio::join!(serve_long(short, &protocols), asks);
        assert!(answer.ends_with("hi") && answer.contains("connection: close"), "{answer}");
    }
}
