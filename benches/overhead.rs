//! What the server adds to the engine's time: 64 clients stream answers, and from the moment a client sends its request to
//! the moment it holds the first token, and the last, what the lane took is subtracted. HTTP, JSON, tokenizing, routing,
//! channels, events, the loopback and the client itself are what is left. Ends with 1 when the bar is missed.
//!
//! `cargo bench --bench overhead`

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const STREAMS: usize = 64;
const ROUNDS: usize = 20;
const TOKENS: usize = 48;
/// Milliseconds, median and 99th percentile.
const BAR: (f64, f64) = (1.0, 3.0);

/// A running server, which ends with this.
struct Server(Child, String);

impl Server {
    fn start(data: &std::path::Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_messplus"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server is built beside this bench");
        let out = BufReader::new(process.stdout.take().expect("its output is piped"));
        let url = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("the server says where it listens");
        Self(process, url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds beyond the engine's.
#[derive(Clone, Copy)]
struct Seen {
    first: f64,
    last: f64,
    per_token: f64,
}

/// One streamed answer.
async fn stream(client: &reqwest::Client, chat: &str, body: &Value) -> Seen {
    let sent = Instant::now();
    let mut response = client.post(chat).json(body).send().await.expect("it is answered");
    assert_eq!(response.status(), 200);
    let (mut first, mut last) = (None, Duration::ZERO);
    let (mut buffer, mut timing, mut tokens) = (String::new(), Value::Null, 0);
    while let Some(piece) = response.chunk().await.expect("the stream goes on") {
        let now = sent.elapsed();
        buffer.push_str(&String::from_utf8_lossy(&piece));
        while let Some(end) = buffer.find("\n\n") {
            let event: String = buffer.drain(..end + 2).collect();
            let Some(chunk) = event
                .strip_prefix("data: ")
                .and_then(|data| serde_json::from_str::<Value>(data).ok())
            else {
                continue;
            };
            if chunk["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
            {
                first.get_or_insert(now);
                last = now;
                tokens += 1;
            }
            if chunk["messplus"].is_object() {
                timing = chunk["messplus"]["timing"].clone();
            }
        }
    }
    let engine = |name: &str| timing[name].as_f64().expect("the last chunk has the timing");
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let engine_first = engine("first_token_ms") - engine("route_ms");
    let last = millis(last) - engine("engine_ms");
    Seen {
        first: millis(first.expect("an answer has a token")) - engine_first,
        last,
        per_token: last / f64::from(tokens.max(1)),
    }
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Prints a row; whether it holds its bar.
fn row(what: &str, mut values: Vec<f64>) -> bool {
    let (median, high) = (percentile(&mut values, 0.5), percentile(&mut values, 0.99));
    let held = median <= BAR.0 && high <= BAR.1;
    let verdict = if held { "held" } else { "MISSED" };
    println!(
        "{what:32} median {median:7.3} ms (≤ {})   99 % {high:7.3} ms (≤ {})   {verdict}",
        BAR.0, BAR.1
    );
    held
}

#[tokio::main]
async fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let server = Server::start(folder.path());
    let client = reqwest::Client::builder()
        .tcp_nodelay(true)
        .build()
        .expect("a client can be made");
    let chat = format!("{}/v1/chat/completions", server.1);
    // The token that ends an answer is forbidden, so that all are equally long.
    let body = json!({
        "model": "demo-small", "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": TOKENS, "logit_bias": {"5": -100}, "stream": true,
    });
    let mut all: Vec<Seen> = Vec::new();
    for round in 0..=ROUNDS {
        let each = (0..STREAMS).map(|_| {
            let (client, chat, body) = (client.clone(), chat.clone(), body.clone());
            tokio::spawn(async move { stream(&client, &chat, &body).await })
        });
        let seen = futures_util::future::join_all(each).await;
        // The first round opens the connections.
        if round > 0 {
            all.extend(seen.into_iter().map(|one| one.expect("no stream fails")));
        }
    }
    println!(
        "{} streams, {STREAMS} at a time, {TOKENS} tokens each; beyond the engine's time:",
        all.len()
    );
    let held = [
        row("to the first token", all.iter().map(|seen| seen.first).collect()),
        row("to the last token", all.iter().map(|seen| seen.last).collect()),
        row(
            "to the last, per token",
            all.iter().map(|seen| seen.per_token).collect(),
        ),
    ];
    match held.iter().all(|held| *held) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
