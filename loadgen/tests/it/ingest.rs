//! `loadgen ingest`, run as people run it.

use super::{Run, run, run_interrupted_at};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{\"accepted\":1}";

async fn ingest(args: &str) -> Run {
    run(&format!("ingest --warm-up 50ms --duration 300ms {args}")).await
}

/// A server that says the same to every request, on as many connections as come; ends with the test's process.
fn parrot(answer: &'static str) -> u16 {
    mortal_parrot(answer, u64::MAX)
}

/// The same, that is gone after so many answers.
fn mortal_parrot(answer: &'static str, answers: u64) -> u16 {
    let answered = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if answered.load(Ordering::Relaxed) >= answers {
                return;
            }
            let answered = Arc::clone(&answered);
            std::thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    if answered.fetch_add(1, Ordering::Relaxed) >= answers {
                        return;
                    }
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_closed_loop_measures_the_bare_server() {
    let run = ingest("--servers bare --connections 8 --rooms 1,10 --body tap,batch --rounds 2").await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.text.contains("INGEST clean"), "{}", run.text);
    let rows = run.report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "two bodies, two numbers of rooms");
    for row in rows {
        assert_eq!((&row["server"], &row["load"]), (&"bare".into(), &"closed".into()));
        assert_eq!(row["rounds"].as_array().unwrap().len(), 2);
        assert!(row["answers_per_s"].as_f64() > Some(10.0), "{row}");
        assert!(row["cpu_s_per_million"].as_f64() > Some(0.0), "{row}");
        assert!(row["from_send"]["p50_us"].as_u64() <= row["from_send"]["p99_us"].as_u64(), "{row}");
        assert_eq!((&row["from_schedule"], &row["refused"]), (&Value::Null, &serde_json::json!({})));
    }
}

#[tokio::test]
async fn several_posters_and_requests_on_a_connection_work_too() {
    let run =
        ingest("--servers bare --connections 5 --rooms 7 --body tap --rounds 1 --posters 2 --pipeline 4")
            .await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.report["rows"][0]["answers_per_s"].as_f64() > Some(10.0), "{}", run.text);
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_measures_from_the_schedule() {
    let run = ingest("--servers bare --connections 8 --rate 200,1000 --late 10s").await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    for (row, due) in [(&run.report["rows"][0], 60), (&run.report["rows"][1], 300)] {
        assert_eq!((&row["due"], &row["not_sent"]), (&due.into(), &0.into()), "{row}");
        assert_eq!(row["from_schedule"]["samples"], due, "each of them has its time");
        let late = |figure: &str| row["from_schedule"][figure].as_u64().unwrap();
        assert!((late("p99_us")..=late("max_us")).contains(&late("p999_us")), "{row}");
        assert!(row["from_schedule"]["max_us"].as_u64() >= row["from_send"]["p50_us"].as_u64(), "{row}");
    }
}

#[tokio::test]
async fn an_overload_is_a_multiple_of_what_a_closed_loop_gets_through() {
    let run = ingest("--servers bare --connections 4 --overload 0.5,2").await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    let rows = run.report["rows"].as_array().unwrap();
    let loads: Vec<_> = rows.iter().map(|row| row["load"].as_str().unwrap()).collect();
    assert_eq!(loads, ["capacity", "0.5x", "2x", "1x again"]);
    let rate = |row: usize| rows[row]["rate_per_s"].as_f64().unwrap();
    assert!((rate(2) / rate(1) - 4.0).abs() < 0.1, "{} {}", rate(1), rate(2));
    for row in &rows[1..] {
        let accounted = row["from_send"]["samples"].as_u64().unwrap() + row["not_sent"].as_u64().unwrap();
        assert_eq!(row["due"].as_u64().unwrap(), accounted, "sent and answered, or not sent: {row}");
    }
}

#[tokio::test]
async fn refusals_in_a_closed_loop_are_shown_with_what_they_say() {
    let port = parrot("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull");
    let run =
        ingest(&format!("--target http://127.0.0.1:{port} --connections 2 --rooms 1 --body tap --rounds 1"))
            .await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("answers 503; the first: 503: full"), "{}", run.text);
    assert_eq!(run.report["rows"][0]["accepted_per_s"], 0.0);
}

#[tokio::test]
async fn an_open_loop_that_is_refused_for_another_reason_than_too_much_is_not_clean() {
    let port = parrot("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let run = ingest(&format!("--target http://127.0.0.1:{port} --connections 2 --rate 200")).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    let said = "200/s: not one request was answered 202, there are refusals other than 429 and 503";
    assert!(run.text.contains(said), "{}", run.text);
}

#[tokio::test]
async fn a_server_that_dies_under_an_open_loop_is_not_clean() {
    let port = mortal_parrot(ACCEPTED, 40);
    let run = ingest(&format!("--target http://127.0.0.1:{port} --connections 4 --rate 200")).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("200/s: connections were lost"), "{}", run.text);
    assert!(run.text.contains("it is gone in the end: Connection refused"), "{}", run.text);
}

#[tokio::test]
async fn an_audit_of_a_server_that_is_gone_knows_what_was_accepted_and_not_what_was_counted() {
    let port = mortal_parrot(ACCEPTED, 40);
    let args = format!("--target http://127.0.0.1:{port} --connections 4 --rate 200 --audit --settle 1s");
    let run = ingest(&args).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("audit NOT CLEAN: 40 accepted, ? counted"), "{}", run.text);
    assert!(run.text.contains("cannot connect to"), "{}", run.text);
    let audit = &run.report["audits"][0];
    assert_eq!((&audit["accepted"], &audit["counted"]), (&40.into(), &Value::Null));
}

#[tokio::test]
async fn a_process_that_does_not_exist_is_wrong_usage() {
    let run = ingest("--target http://127.0.0.1:1 --pid 4294967295").await;
    assert_eq!(run.code, Some(2), "{}", run.text);
    assert!(run.text.contains("error: --pid 4294967295: there is no such process"), "{}", run.text);
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_named() {
    let port = parrot("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    let run =
        ingest(&format!("--target http://127.0.0.1:{port} --connections 2 --rooms 1 --body tap --rounds 1"))
            .await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("an answer with a transfer-encoding (chunked)"), "{}", run.text);
    assert!(run.report["rows"][0]["broken"].as_u64() > Some(0), "{}", run.text);
}

#[tokio::test]
async fn a_server_that_does_not_start_is_named_and_the_others_are_measured() {
    // Content with any configuration, and over at once.
    let args = "--servers uproar,bare --uproar /bin/true --connections 2 --rooms 1 --body tap --rounds 1";
    let run = ingest(args).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(run.report["rows"][0]["server"], "bare");
    assert!(run.text.contains("uproar failed: it does not start: it said nothing: "), "{}", run.text);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_refused_before_anything_is_measured() {
    let run = ingest("--uproar /no/such/file").await;
    assert_eq!((run.code, &run.report), (Some(2), &Value::Null), "{}", run.text);
    assert_eq!(run.text, "error: there is no /no/such/file (--uproar names it)\n");
}

#[tokio::test]
async fn a_configuration_that_uproar_refuses_is_said_before_anything_is_measured() {
    // Some program that takes no configuration at all.
    let run = ingest(&format!("--uproar {} --set x", env!("CARGO_BIN_EXE_loadgen"))).await;
    assert_eq!((run.code, &run.report), (Some(2), &Value::Null), "{}", run.text);
    assert!(
        run.text.contains("would not start: error: unrecognized subcommand 'check-config'"),
        "{}",
        run.text
    );
    assert!(!run.text.contains("answers/s"), "{}", run.text);
}

#[tokio::test]
async fn an_interrupt_leaves_a_report_of_the_rounds_that_are_done() {
    let args =
        "ingest --warm-up 50ms --duration 300ms --servers bare --connections 4 --body tap --rounds 1000";
    let run = run_interrupted_at(", 2/1000: ", args).await;
    assert_eq!((run.code, &run.report["interrupted"]), (Some(130), &true.into()), "{}", run.text);
    assert!(run.text.contains("INTERRUPTED"), "{}", run.text);
    let rounds = run.report["rows"][0]["rounds"].as_array().unwrap();
    assert!((2..100).contains(&rounds.len()), "{}", run.text);
    assert_eq!(run.report["clean"], false, "a part is not clean: {}", run.text);
}
