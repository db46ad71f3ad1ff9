//! The short way and the long one give the same answers.

use super::*;
use eventlog::{Append, AppendError, BoxFuture, Writer};
use std::{sync::Mutex, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::control::RoomState;

/// A header that nobody here looks at, and with which no request is plain.
const LONG: &str = "te: trailers\r\n";

/// Answers over a connection of its own: status line and headers in order, and the body.
async fn asked(address: SocketAddr, requests: &[String]) -> Vec<(Vec<String>, String)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(asked_on(&mut stream, request).await);
    }
    answers
}

/// One answer over a connection.
async fn asked_on(stream: &mut TcpStream, request: &str) -> (Vec<String>, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4_096];
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "closed after {text:?} to {request:?}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            break (lines, body.to_owned());
        }
    }
}

/// The short way tells the date before the length, and the other one behind it.
fn is_short(lines: &[String]) -> bool {
    let at = |name: &str| lines.iter().position(|line| line.starts_with(name)).unwrap();
    at("date: ") < at("content-length: ")
}

fn without_date(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| !line.starts_with("date: "));
    lines[1..].sort();
    lines
}

fn post(room: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/rooms/{room}/reactions HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Asks both ways, as two clients who are told apart, and compares; the status codes. Room `closed` is closed.
async fn compare(config: Config, requests: &[String]) -> Vec<u16> {
    let rig = Rig::open(Config { trusted_proxies: vec!["127.0.0.0/8".into()], ..config }).await;
    rig.order("closed", 1, |order| order.state = RoomState::Closed);
    let (address, _server) = rig.serve().await;
    let of = |client: &str| -> Vec<String> {
        let own = format!("host: x\r\nx-forwarded-for: {client}\r\n");
        requests.iter().map(|request| request.replace("host: x\r\n", &own)).collect()
    };
    let short = asked(address, &of("10.0.0.1")).await;
    let long = of("10.0.0.2")
        .iter()
        .map(|request| request.replacen("host:", &format!("{LONG}host:"), 1))
        .collect::<Vec<_>>();
    let long = asked(address, &long).await;
    let mut statuses = Vec::new();
    for (request, (short, long)) in requests.iter().zip(short.into_iter().zip(long)) {
        assert!(is_short(&short.0) && !is_short(&long.0), "{request}: {short:?}, {long:?}");
        statuses.push(short.0[0]["HTTP/1.1 ".len()..][..3].parse().unwrap());
        let [short, long] = [short, long].map(|(lines, body)| (without_date(lines), body));
        assert_eq!(short, long, "{request}");
    }
    statuses
}

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn answers_are_the_same() {
    let strict = Config {
        rooms: vec!["final".into()],
        cors_origins: vec!["https://a.example".into()].into(),
        max_distinct_per_request: 2,
        ..config()
    };
    let with = |headers: &str| post("final", &[JSON, headers].concat(), FIRE);
    let with_body = |body: &str| post("final", JSON, body);
    let preflight = "OPTIONS /v1/rooms/final/reactions HTTP/1.1\r\nhost: x\r\norigin: https://a.example\r\n\
                     access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n";
    let cases = [
        (with(""), 202),
        (with_body(r#"{"reaction":"🔥","count":7}"#), 202),
        (with_body(r#"{"reaction":"🔥","count":777}"#), 202),
        (post("final", "Content-Type: text/plain;charset=UTF-8\r\n", FIRE), 202),
        (post("final", "Content-Type: text/plain\r\nContent-Type: nonsense\r\n", FIRE), 202),
        (post("final", "content-type: application/json; v=1\r\n", FIRE), 202),
        (with("Content-Encoding: identity\r\n"), 202),
        (with("Origin: https://a.example\r\n"), 202),
        (with("origin: https://b.example\r\n"), 403),
        (with("origin: null\r\n"), 403),
        (with("origin: http://x\r\n"), 202),
        (with("content-encoding:\r\n"), 202),
        (post("final", "content-type: text/plain; charset=utf8\r\n", FIRE), 202),
        (with_body("\u{feff}{\"reaction\":\"🔥\"}"), 202),
        (with("connection: keep-alive\r\n"), 202),
        (with_body("{"), 400),
        (with_body(""), 400),
        (post("other", JSON, FIRE), 404),
        (post("closed", JSON, FIRE), 403),
        (with_body(&format!("{FIRE:<width$}", width = 4_096 - FIRE.len() + FIRE.chars().count())), 202),
        (with_body(&" ".repeat(4_097)), 413),
        (post("final", "", FIRE), 415),
        (post("final", "content-type: application/json; é=1\r\n", FIRE), 415),
        (with("content-encoding: gzip\r\n"), 415),
        (post("final", "content-type: x\r\norigin: https://a.example\r\n", FIRE), 415),
        (with_body(r#"{"reaction":""}"#), 422),
        (preflight.to_owned(), 200),
        (preflight.replace("a.example", "b.example"), 200),
        ("OPTIONS /v1/rooms/final/reactions HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(compare(strict, &requests).await, expected);
}

#[tokio::test]
async fn a_connection_ends_the_same_way() {
    let statuses = compare(config(), &[post("final", &format!("{JSON}connection: close\r\n"), FIRE)]).await;
    assert_eq!(statuses, [202]);
}

#[tokio::test]
async fn limits_and_keys_are_the_same() {
    let with = |headers: &str, body: &str| post("final", &[JSON, headers].concat(), body);
    let other = r#"{"reaction":"👏"}"#;
    let cases = [
        (with("Idempotency-Key: a\r\n", FIRE), 202),
        (with("idempotency-key: \"a\"\r\n", FIRE), 202),
        (with("idempotency-key: a\r\n", other), 422),
        (with("idempotency-key: a b\r\n", other), 400),
        (with("idempotency-key: a\r\nidempotency-key: a\r\n", FIRE), 400),
        (with("", FIRE), 202),
        (post("final", "content-type: x\r\n", FIRE), 415),
        (with("origin: https://a.example\r\n", FIRE), 429),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    // So slow that no token comes back meanwhile.
    let limited = Config { rate_per_s: 1, rate_burst: 7, ..config() };
    let statuses = compare(limited, &requests).await;
    assert_eq!(statuses, expected);

    let keyless = Config { max_idempotency_keys: 0, ..config() };
    assert_eq!(compare(keyless, &[with("idempotency-key: a\r\n", FIRE)]).await, [400]);
}

#[tokio::test]
async fn who_comes_the_short_way_is_who_the_gateway_says() {
    let proxies = vec!["127.0.0.0/8".into()];
    let rig =
        Rig::open(Config { trusted_proxies: proxies, subject_header: "x-user".into(), ..config() }).await;
    let (address, _server) = rig.serve().await;
    // A key is its client's own.
    let of = |user: &str, body: &str| {
        post("final", &format!("{JSON}idempotency-key: k\r\nX-User: {user}\r\n"), body)
    };
    let other = r#"{"reaction":"👏"}"#;
    let answers = asked(address, &[of("ann", FIRE), of("bob", other), of("ann", other)]).await;
    assert!(answers.iter().all(|(lines, _)| is_short(lines)), "{answers:?}");
    let statuses: Vec<_> = answers.iter().map(|(lines, _)| &lines[0]["HTTP/1.1 ".len()..][..3]).collect();
    assert_eq!(statuses, ["202", "202", "422"]);
}

#[tokio::test]
async fn each_request_is_counted_once_whatever_its_way() {
    let rig = Rig::open(config()).await;
    let (address, _server) = rig.serve().await;
    let mut requests = vec![post("final", JSON, FIRE); 20];
    requests.push(post("final", &[JSON, LONG].concat(), FIRE));
    requests.push(post("final", JSON, FIRE));
    let answers = asked(address, &requests).await;
    let short: Vec<_> = answers.iter().map(|(lines, _)| is_short(lines)).collect();
    assert_eq!(short, [vec![true; 20], vec![false; 2]].concat(), "who left the short way doesn't come back");
    assert!(
        answers.iter().all(|(lines, body)| lines[0] == "HTTP/1.1 202 Accepted" && body == "{\"accepted\":1}")
    );
    until(|| rig.total("final") == 22).await;
}

/// Requests of one 🔥 over connections of their own: their status lines.
fn crowd(address: SocketAddr, way: &str, n: usize) -> JoinSet<String> {
    let mut crowd = JoinSet::new();
    for _ in 0..n {
        let request = post("r", &[JSON, way].concat(), FIRE);
        crowd.spawn(async move { asked(address, &[request]).await.remove(0).0.remove(0) });
    }
    crowd
}

#[tokio::test]
async fn nobody_is_answered_before_the_record_is_durable_whatever_the_way() {
    for way in ["", LONG] {
        let rig = Rig::open(config()).await;
        let (address, _server) = rig.serve().await;
        rig.log.hold_appends(true);
        let mut waiting = crowd(address, way, 3);
        until(|| rig.inside() == 3 && rig.log.held_appends() > 0).await;
        assert!(waiting.try_join_next().is_none());
        rig.log.hold_appends(false);
        assert_eq!(waiting.join_all().await, ["HTTP/1.1 202 Accepted"; 3]);
        until(|| rig.inside() == 0).await;
        assert_eq!(rig.total("r"), 3);
    }
}

#[tokio::test]
async fn what_the_log_did_not_take_is_answered_503_or_504_whatever_the_way() {
    let full = AppendError::NotWritten("the queue is full".into());
    let lost = AppendError::Unknown("the broker is gone".into());
    for (error, status) in
        [(full, "HTTP/1.1 503 Service Unavailable"), (lost, "HTTP/1.1 504 Gateway Timeout")]
    {
        for way in ["", LONG] {
            let rig = Rig::open(config()).await;
            let (address, _server) = rig.serve().await;
            rig.log.fail_appends(Some(error.clone()));
            assert_eq!(crowd(address, way, 3).join_all().await, [status; 3]);
            rig.log.fail_appends(None);
            assert_eq!(crowd(address, way, 3).join_all().await, ["HTTP/1.1 202 Accepted"; 3]);
            assert_eq!(rig.total("r"), 3);
        }
    }
}

/// On the way of the HTTP library. The short way reads nothing while a request waits.
#[tokio::test]
async fn a_connection_that_is_reset_makes_room_for_another_request_and_its_reaction_counts() {
    let rig = Rig::open(Config { max_waiting: 1, ack_timeout_ms: 60_000, ..config() }).await;
    let (address, _server) = rig.serve().await;
    rig.log.hold_appends(true);
    let mut gone = TcpStream::connect(address).await.unwrap();
    gone.write_all(post("r", &[JSON, LONG].concat(), FIRE).as_bytes()).await.unwrap();
    until(|| rig.inside() == 1).await;
    assert_eq!(crowd(address, LONG, 1).join_all().await, ["HTTP/1.1 503 Service Unavailable"]);
    gone.set_zero_linger().unwrap();
    drop(gone);
    until(|| rig.inside() == 0).await;
    let another = crowd(address, LONG, 1);
    until(|| rig.inside() == 1).await;
    rig.log.hold_appends(false);
    assert_eq!(another.join_all().await, ["HTTP/1.1 202 Accepted"]);
    assert_eq!(rig.total("r"), 2);
}

#[tokio::test]
async fn a_shutdown_answers_all_who_wait_whatever_the_way() {
    for way in ["", LONG] {
        let rig = Rig::open(config()).await;
        let (address, _server) = rig.serve().await;
        rig.log.hold_appends(true);
        let waiting = crowd(address, way, 3);
        until(|| rig.inside() == 3).await;
        rig.shutdown.cancel();
        until(|| !rig.readiness.missing().is_empty()).await;
        rig.log.hold_appends(false);
        assert_eq!(waiting.join_all().await, ["HTTP/1.1 202 Accepted"; 3]);
        let log = Arc::clone(&rig.log);
        rig.stop().await.unwrap();
        let records = log.reactions(log.partition_of(&"r".parse().unwrap()));
        let count = |record: &eventlog::Record| Batch::decode(&record.value).unwrap().count;
        assert_eq!(records.iter().map(count).sum::<u64>(), 3);
    }
}

/// With an interval so long that no batch closes by it.
async fn without_interval() -> Rig {
    let interval_ms = 600_000;
    Rig::open(Config { commit_interval_ms: interval_ms, ack_timeout_ms: interval_ms, ..config() }).await
}

#[tokio::test]
async fn those_who_post_again_at_once_are_not_held_to_the_interval() {
    let rig = without_interval().await;
    let (address, _server) = rig.serve().await;
    // Nobody waits for one who only looks on, nor for one who was never answered.
    let mut viewer = TcpStream::connect(address).await.unwrap();
    let (lines, _) = asked_on(&mut viewer, "GET /v1/rooms/r HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(lines[0], "HTTP/1.1 404 Not Found");
    let _idle = TcpStream::connect(address).await.unwrap();
    let ask = || async move { asked(address, &vec![post("r", JSON, FIRE); 20]).await };
    // Each waits for the other. The first to leave would be waited for.
    let first = async {
        tokio::select! { answers = ask() => answers, answers = ask() => answers }
    };
    let answers = tokio::time::timeout(Duration::from_secs(60), first).await.expect("all were answered");
    assert!(answers.iter().all(|(lines, _)| lines[0] == "HTTP/1.1 202 Accepted"));
}

/// A writer that wants pauses, and notes when it was called.
struct Paced {
    writer: Arc<dyn Writer>,
    called_at: Mutex<Vec<Instant>>,
}

const PAUSE: Duration = Duration::from_millis(30);

impl Writer for Paced {
    fn partitions(&self) -> u32 {
        self.writer.partitions()
    }

    fn min_pause(&self) -> Duration {
        PAUSE
    }

    fn send(&self, appends: Vec<Append>) {
        self.called_at.lock().unwrap().push(Instant::now());
        self.writer.send(appends);
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        self.writer.flush(deadline)
    }
}

#[tokio::test]
async fn a_log_that_wants_pauses_gets_them_and_nobody_waits_for_the_interval() {
    let rig = without_interval().await;
    let writer = rig.log.writer().await.unwrap();
    let paced = Arc::new(Paced { writer, called_at: Mutex::default() });
    rig.shared.handover.open(Arc::<Paced>::clone(&paced));
    let (address, _server) = rig.serve().await;
    let posts = vec![post("r", JSON, FIRE); 10];
    let all = asked(address, &posts);
    let answers = tokio::time::timeout(Duration::from_secs(60), all).await.expect("all were answered");
    assert!(answers.iter().all(|(lines, _)| lines[0] == "HTTP/1.1 202 Accepted"));
    let called_at = paced.called_at.lock().unwrap();
    assert_eq!(called_at.len(), 10);
    // A millisecond is what the timer may be early by.
    let too_soon = |two: &[Instant]| two[1] - two[0] < PAUSE - Duration::from_millis(1);
    assert!(!called_at.windows(2).any(too_soon), "{called_at:?}");
}

#[tokio::test]
async fn who_is_with_the_log_or_was_answered_lately_is_waited_for() {
    let rig = without_interval().await;
    let (address, _server) = rig.serve().await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let request = post("r", JSON, FIRE);
    let ask = || {
        let request = request.clone();
        async move { asked(address, &[request]).await }
    };
    rig.log.hold_appends(true);
    let early = async {
        let waits = asked_on(&mut first, &request);
        let joined = async {
            let handed_over = || rig.shared.handover.passed_at().is_some() && rig.shared.batches.rooms() == 0;
            until(handed_over).await;
            let mut others = JoinSet::new();
            others.spawn(ask());
            until(|| rig.shared.batches.waiting() == 1).await;
            rig.log.hold_appends(false);
            others
        };
        tokio::join!(waits, joined).1
    };
    let mut others =
        tokio::time::timeout(Duration::from_secs(60), early).await.expect("the first was answered");
    assert_eq!((rig.total("r"), rig.shared.batches.waiting()), (1, 1), "it waited for the one with the log");
    others.spawn(ask());
    until(|| rig.shared.batches.waiting() == 2).await;
    assert_eq!(rig.total("r"), 1, "they wait for the one that was answered");
    let all = async { tokio::join!(asked_on(&mut first, &request), others.join_all()) };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all were answered");
    assert_eq!(rig.total("r"), 4);
}

#[tokio::test]
async fn who_stays_away_is_waited_for_once() {
    let rig = Rig::open(Config { commit_interval_ms: 500, ..config() }).await;
    let (address, _server) = rig.serve().await;
    let mut stays = TcpStream::connect(address).await.unwrap();
    asked_on(&mut stays, &post("r", JSON, FIRE)).await;
    // An interval for the first of them. One for each would be half a minute.
    let posts = vec![post("r", JSON, FIRE); 60];
    let answers = tokio::time::timeout(Duration::from_secs(15), asked(address, &posts)).await;
    assert_eq!(answers.expect("they were answered in time").len(), 60);
}

#[tokio::test]
async fn who_is_alone_is_told_so_when_the_log_hangs() {
    // The request hands its batch over by itself, or the committer does it: who comes first.
    for _ in 0..20 {
        let rig = Rig::open(Config { ack_timeout_ms: 20, ..config() }).await;
        let (address, _server) = rig.serve().await;
        rig.log.hold_appends(true);
        let requests = [post("r", JSON, FIRE)];
        let asked = tokio::time::timeout(Duration::from_secs(20), asked(address, &requests)).await;
        assert_eq!(asked.expect("an answer")[0].0[0], "HTTP/1.1 504 Gateway Timeout");
    }
}
