//! The client against a small server that answers as the contract says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::cli::{Cli, Command};

/// The right answers by question.
static RIGHT: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    questions::demo(0)
        .unwrap()
        .into_iter()
        .map(|q| (q.question, q.reference))
        .collect()
});

/// What the server saw, and how it behaves.
#[derive(Default)]
struct Seen {
    asked: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    feedback: Mutex<Vec<Value>>,
    bodies: Mutex<Vec<Value>>,
    records: AtomicUsize,
    judged: AtomicUsize,
    satisfied: AtomicUsize,
    /// Every so many requests one is refused; 0 refuses none.
    refuse_every: usize,
}

/// The small model answers every third question wrong, the large one none. 1 J and 10 J.
async fn chat(State(seen): State<Arc<Seen>>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let n = seen.asked.fetch_add(1, Ordering::SeqCst);
    let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_in_flight.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2)).await;
    seen.in_flight.fetch_sub(1, Ordering::SeqCst);
    seen.bodies.lock().unwrap().push(body.clone());
    if seen.refuse_every > 0 && n % seen.refuse_every == 0 {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            Json(json!({"error": {"message": "the queue is full"}})),
        );
    }
    let question = body["messages"][0]["content"].as_str().unwrap();
    let right = RIGHT[question].clone();
    let large = body["model"] == "large";
    let text = if large || n % 3 != 0 {
        format!("{right}\n")
    } else {
        "no idea".into()
    };
    if body["messplus"]["reference"].is_string() {
        seen.judged.fetch_add(1, Ordering::SeqCst);
        seen.satisfied
            .fetch_add(usize::from(text.trim() == right), Ordering::SeqCst);
    }
    let joules = if large { 10.0 } else { 1.0 };
    let mut extension = json!({
        "request_id": format!("req_{n:016x}"), "model": if large { "large" } else { "small" },
        "energy": {"joules": joules / 2.0, "exploration_joules": 0.25, "source": "modelled", "final": n % 2 == 0},
    });
    if n % 2 == 0 {
        extension["energy"]["joules"] = json!(joules);
    }
    if body["model"] == "auto" {
        extension["alpha"] = json!(0.6);
        extension["expected_joules"] = json!({"large": 9.0, "small": 1.5});
    }
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}});
    (
        StatusCode::OK,
        Json(json!({"model": "small", "choices": [choice], "messplus": extension})),
    )
}

async fn record(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> Json<Value> {
    seen.records.fetch_add(1, Ordering::SeqCst);
    let joules = match seen.asked.load(Ordering::SeqCst) > 60 {
        true => 10.0,
        false => 1.0,
    };
    let energy = json!({"joules": joules, "exploration_joules": 0.25, "source": "modelled", "final": true});
    Json(json!({"request_id": id, "energy": energy}))
}

async fn feedback(State(seen): State<Arc<Seen>>, Json(body): Json<Value>) -> Json<Value> {
    seen.judged.fetch_add(1, Ordering::SeqCst);
    seen.satisfied
        .fetch_add(usize::from(body["satisfied"] == true), Ordering::SeqCst);
    seen.feedback.lock().unwrap().push(body);
    Json(json!({}))
}

async fn router(State(seen): State<Arc<Seen>>) -> Json<Value> {
    let (judged, satisfied) = (
        seen.judged.load(Ordering::SeqCst),
        seen.satisfied.load(Ordering::SeqCst),
    );
    let share = (judged > 0).then(|| satisfied as f64 / judged as f64);
    Json(json!({"slas": [{"sla": "default", "alpha": 0.6, "judged": judged, "satisfaction": share}]}))
}

async fn serve(seen: Seen) -> (String, Arc<Seen>) {
    let seen = Arc::new(seen);
    let models = json!({"data": [{"id": "auto"}, {"id": "small"}, {"id": "large"}]});
    let energy = json!({"devices": [{"measured_joules": 4.0, "request_joules": 3.0, "idle_joules": 1.0}]});
    let app = Router::new()
        .route("/v1/models", get(move || async move { Json(models) }))
        .route("/v1/energy", get(move || async move { Json(energy) }))
        .route("/v1/router", get(router))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/requests/{id}", get(record))
        .route("/v1/feedback", post(feedback))
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

fn args(url: &str, more: &str) -> LoadArgs {
    let line = format!("messplus load --url {url} {more}");
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Load(args) => args,
        other => panic!("{other:?}"),
    }
}

async fn run(url: &str, more: &str) -> Report {
    measure(&args(url, more), std::future::pending()).await.unwrap()
}

fn json_of(report: &Report) -> Value {
    serde_json::from_str(&report.as_json()).unwrap()
}

#[tokio::test]
async fn a_run_is_measured() {
    let (url, seen) = serve(Seen::default()).await;
    let report = run(&url, "--requests 60 --concurrency 4 --baseline-sample 20 --json").await;
    report.verdict().unwrap();
    let json = json_of(&report);
    assert_eq!(
        (&json["requests"], &json["errors"], &json["alpha"]),
        (&json!(60), &json!(0), &json!(0.6))
    );
    assert_eq!(
        (&json["satisfaction"], &json["wrong"]),
        (&json!(40.0 / 60.0), &json!(20))
    );
    // Half of the answers come with provisional joules: the final ones are fetched.
    assert_eq!(
        (&json["joules_per_request"], &json["unsettled"]),
        (&json!(1.25), &json!(0))
    );
    assert_eq!(
        (&json["large_model"], &json["large_joules_per_request"]),
        (&json!("large"), &json!(10.25))
    );
    assert_eq!(
        (&json["joules_ratio"], &json["share"]),
        (&json!(1.25 / 10.25), &json!({"small": 1.0}))
    );
    assert_eq!(
        (&json["meter"], &json["conservation_error"]),
        (&json!("modelled"), &json!(0.0))
    );
    assert_eq!(
        (&json["server_judged"], &json["server_satisfied"]),
        (&json!(60), &json!(40))
    );
    assert!(
        json["satisfaction_low_after_500"].is_null() && json["latency_ms"]["p50"].as_f64().unwrap() >= 2.0
    );
    assert!((2..=4).contains(&seen.most_in_flight.load(Ordering::SeqCst)));
    let text = report.as_table();
    for words in [
        "60 answered, 0 errors",
        "0.6667 (95 %: 0.54",
        "an estimate",
        "joules ratio",
        "small",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains("server's count"), "{text}");
    let bodies = seen.bodies.lock().unwrap();
    assert!(bodies[0]["messplus"]["reference"].is_string() && bodies[0]["messplus"]["sla"] == "default");
    assert!(
        bodies[60..]
            .iter()
            .all(|b| b["model"] == "large" && b["messplus"] == json!({}))
    );
}

#[tokio::test]
async fn a_client_may_judge() {
    let (url, seen) = serve(Seen::default()).await;
    let report = run(
        &url,
        "--requests 12 --feedback-by client --baseline-sample 0 --max-tokens 7",
    )
    .await;
    assert_eq!(
        (report.tally.answered(), report.server.judged),
        (12, Some((12, 8)))
    );
    assert!(report.baseline.is_none());
    let feedback = seen.feedback.lock().unwrap();
    assert_eq!(feedback.iter().filter(|f| f["satisfied"] == true).count(), 8);
    assert!(
        seen.bodies
            .lock()
            .unwrap()
            .iter()
            .all(|b| b["messplus"]["reference"].is_null() && b["max_tokens"] == 7)
    );
}

#[tokio::test]
async fn refusals_are_counted_and_told() {
    let (url, _) = serve(Seen {
        refuse_every: 4,
        ..Seen::default()
    })
    .await;
    let report = run(&url, "--requests 20 --baseline-sample 0").await;
    assert_eq!((report.tally.answered(), report.tally.failed()), (15, 5));
    assert!(
        report.as_table().contains("5 × 429: the queue is full"),
        "{}",
        report.as_table()
    );
    report.verdict().unwrap();
    let (url, _) = serve(Seen {
        refuse_every: 1,
        ..Seen::default()
    })
    .await;
    let report = run(&url, "--requests 3").await;
    let said = report.verdict().unwrap_err().to_string();
    assert!(
        said.contains("none of 3 requests was answered, the server said 429: the queue is full"),
        "{said}"
    );
    assert!(json_of(&report)["satisfaction"].is_null());
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (url, _) = serve(Seen::default()).await;
    let start = std::time::Instant::now();
    run(
        &url,
        "--requests 40 --rate 200 --concurrency 40 --baseline-sample 0 --seed 5",
    )
    .await;
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.1..20.0).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn stopping_prints_what_there_is() {
    let (url, _) = serve(Seen::default()).await;
    let stop = tokio::time::sleep(Duration::from_millis(300));
    let report = measure(&args(&url, "--requests 1000000 --concurrency 2"), stop)
        .await
        .unwrap();
    assert!(report.tally.answered() > 0 && report.baseline.is_none());
    assert_eq!(json_of(&report)["complete"], false);
    let said = report.verdict().unwrap_err().to_string();
    assert!(
        said.starts_with("stopped after ") && said.contains("of 1000000"),
        "{said}"
    );
}

#[tokio::test]
async fn nobody_there_is_one_sentence() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = measure(&args(&url, ""), std::future::pending())
        .await
        .err()
        .unwrap();
    let said = error.to_string();
    assert!(
        said.contains("(connection refused): start one with `messplus serve`"),
        "{said}"
    );
    assert_eq!(error.status(), 1);
}
