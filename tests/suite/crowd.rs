//! Clients who vanish, who are too many or too demanding, and an owner who cannot wait: who is harmed, and what is told.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, ask, command};

/// Patience for what must happen soon, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);

/// A server of one model with `[server]` lines of its own; what it logs goes to `log.jsonl`.
fn serve(folder: &Path, lines: &str) -> Server {
    let zoo = format!(
        "[server]\n{lines}\n[energy]\nmeter = \"modelled\"\n[[model]]\nname = \"demo-large\"\nsource = \"demo:large\"\n"
    );
    std::fs::write(folder.join("zoo.toml"), zoo).unwrap();
    let zoo = folder.join("zoo.toml").display().to_string();
    let mut command = command(&folder.join("data"), &["--zoo", &zoo, "--log-format", "json"]);
    command.env_remove("RUST_LOG");
    command.stderr(File::create(folder.join("log.jsonl")).unwrap());
    Server::spawn(command)
}

fn log(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn address(server: &Server) -> String {
    server.url.split_once("://").unwrap().1.to_owned()
}

/// An answer that goes on until its context is full, which takes a while: end tokens are forbidden.
fn endless(stream: bool) -> Value {
    let mut body = ask("demo-large", "Count.");
    body["logit_bias"] = json!({"5": -100});
    body["stream"] = json!(stream);
    body["n"] = json!(8);
    body
}

/// A chat as bytes on the wire.
fn request(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The value of a series, by its beginning; 0 where it is missing.
async fn metric(server: &Server, series: &str) -> f64 {
    let page = server.text("/metrics").await;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

const RUNNING: &str = "messplus_running_requests{model=\"demo-large\"}";
const WAITING: &str = "messplus_queue_depth{model=\"demo-large\"}";
const CANCELLED: &str = "messplus_requests_total{model=\"demo-large\",outcome=\"cancelled\",sla=\"none\"}";
const ANSWERED: &str = "messplus_requests_total{model=\"demo-large\",outcome=\"answered\",sla=\"none\"}";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whichever way a client leaves, and whether it waited for the whole answer or read a stream, its request ends long
/// before the answer would have, and what it cost until then is booked.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_request_along() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "max_queue = 512");
    let mut gone = 0.0;
    for stream in [true, false] {
        type Leave = fn(TcpStream);
        // Closed for writing and reading, with answers unread (which resets), and dead in mid-answer.
        let ways: [Leave; 3] = [
            |connection| connection.shutdown(Shutdown::Both).unwrap(),
            drop,
            |mut connection| {
                let _ = connection.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = connection.read(&mut [0; 16]);
                drop(connection);
            },
        ];
        for leave in ways {
            let mut connection = TcpStream::connect(address(&server)).unwrap();
            connection.write_all(&request(&endless(stream))).unwrap();
            until("a running batch", async || metric(&server, RUNNING).await >= 8.0).await;
            leave(connection);
            gone += 1.0;
            until("the cancellation", async || {
                metric(&server, CANCELLED).await >= gone
            })
            .await;
            until("an idle lane", async || metric(&server, RUNNING).await == 0.0).await;
        }
    }
    assert_eq!(
        metric(&server, ANSWERED).await,
        0.0,
        "nothing was answered to its end"
    );
    // One who goes while he waits in the queue leaves it.
    let mut running: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let mut connection = TcpStream::connect(address(&server)).unwrap();
        connection.write_all(&request(&endless(true))).unwrap();
        running.push(connection);
    }
    until("a queue", async || metric(&server, WAITING).await > 0.0).await;
    drop(running);
    until("an empty queue", async || {
        metric(&server, WAITING).await == 0.0 && metric(&server, RUNNING).await == 0.0
    })
    .await;
    until("the last record", async || {
        let records = server.get("/v1/requests?limit=1000").await;
        let records = records["data"].as_array().unwrap().clone();
        let cancelled = |record: &Value| record["finish_reason"] == "cancelled";
        records.len() > 6 && records.iter().all(cancelled)
    })
    .await;
    let books = server.get("/v1/energy").await;
    assert!(
        books["devices"][0]["request_joules"].as_f64().unwrap() > 0.0,
        "{books}"
    );
    assert!(server.interrupt());
}

/// What is taken is answered, what is not is told when to come back, and the two add up.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_answered_or_sent_away_and_nobody_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "max_queue = 2");
    let client = reqwest::Client::new();
    let chat = format!("{}/v1/chat/completions", server.url);
    let mut body = ask("demo-large", "What is 1 + 1?");
    body["max_tokens"] = json!(4);
    let (mut answered, mut refused) = (0, 0);
    let begun = Instant::now();
    // How many come while the lane is busy with a step is chance.
    while answered == 0 || refused == 0 {
        assert!(begun.elapsed() < SOON, "{answered} answered, {refused} refused");
        let each = (0..60).map(|_| client.post(&chat).json(&body).send());
        for answer in futures_util::future::join_all(each).await {
            let answer = answer.unwrap();
            match answer.status().as_u16() {
                200 => answered += 1,
                429 => {
                    refused += 1;
                    let number =
                        |name: &str| -> u64 { answer.headers()[name].to_str().unwrap().parse().unwrap() };
                    let (seconds, millis) = (number("retry-after"), number("retry-after-ms"));
                    assert!((1..=60).contains(&seconds) && (1..=60_000).contains(&millis));
                    assert_eq!(seconds, millis.div_ceil(1000));
                    let fault: Value = answer.json().await.unwrap();
                    assert_eq!(fault["error"]["code"], "queue_full");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(metric(&server, ANSWERED).await, f64::from(answered));
    let page = server.text("/metrics").await;
    let rejected = page.lines().filter(|line| line.contains("outcome=\"rejected\""));
    let counts = rejected.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    assert_eq!(counts.sum::<f64>(), f64::from(refused), "{page}");
    let records = server.get("/v1/requests?limit=1000").await;
    assert_eq!(records["data"].as_array().unwrap().len(), answered as usize);
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_prompts_have_the_bounds_of_the_zoo_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "max_body = \"256KiB\"\nmax_prompt = 64");
    let chat = "/v1/chat/completions";
    let padded = |bytes: usize| {
        let body = ask("demo-large", "Hello").to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(
        server
            .post_raw(chat, "application/json", padded(256 << 10))
            .await
            .0,
        200
    );
    // Sent whole before anything is read, the commonest client's way.
    for bytes in [(256 << 10) + 1, 40 << 20] {
        let (status, fault) = server.post_raw(chat, "application/json", padded(bytes)).await;
        assert_eq!(
            (status, &fault["error"]["code"]),
            (413, &json!("body_too_large")),
            "{fault}"
        );
    }
    let (status, fault) = server.post(chat, &ask("demo-large", &"word ".repeat(80))).await;
    assert_eq!(
        (status, &fault["error"]["code"]),
        (400, &json!("context_length_exceeded")),
        "{fault}"
    );
    assert!(
        fault["error"]["message"]
            .as_str()
            .unwrap()
            .contains("takes at most 64"),
        "{fault}"
    );

    // Large bodies that never come to their end take no more memory than there is room for; who asks little is served.
    let mut halves = Vec::new();
    for _ in 0..64 {
        let mut connection = TcpStream::connect(address(&server)).unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        connection
            .write_all(format!("{head}content-length: 260000\r\n\r\n").as_bytes())
            .unwrap();
        connection.write_all(&vec![b' '; 200_000]).unwrap();
        halves.push(connection);
    }
    until("a refusal for want of room", async || {
        halves.iter_mut().any(|connection| {
            connection
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            let mut said = [0; 12];
            connection.read_exact(&mut said).is_ok() && &said == b"HTTP/1.1 503"
        })
    })
    .await;
    assert_eq!(server.post(chat, &ask("demo-large", "Hello")).await.0, 200);
    drop(halves);
    assert!(server.interrupt());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_line_with_its_joules() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "");
    let answer = server.chat(ask("auto", "What is 1 + 1?")).await;
    let id = answer["messplus"]["request_id"].as_str().unwrap();
    let (status, _) = server
        .post("/v1/chat/completions", &json!({"model": "auto"}))
        .await;
    assert_eq!(status, 400);
    assert!(server.interrupt());
    let lines = log(folder.path());
    let about: Vec<&Value> = lines.iter().filter(|line| line["request"] == id).collect();
    assert_eq!(about.len(), 1, "{lines:#?}");
    let line = about[0];
    assert_eq!(
        (&line["level"], &line["message"]),
        (&json!("INFO"), &json!("request over"))
    );
    assert_eq!(line["model"], answer["model"]);
    assert_eq!(line["prompt_tokens"], answer["usage"]["prompt_tokens"]);
    assert_eq!(line["completion_tokens"], answer["usage"]["completion_tokens"]);
    assert!(
        line["joules"].as_f64().unwrap() > 0.0 && line["milliseconds"].as_f64().unwrap() > 0.0,
        "{line}"
    );
    let refused = lines.iter().find(|line| line["message"] == "refused").unwrap();
    assert_eq!(
        (&refused["status"], &refused["path"]),
        (&json!(400), &json!("/v1/chat/completions"))
    );
    assert!(refused["request"].as_str().unwrap().starts_with("req_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_so_and_a_second_signal_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), "");
    let client = reqwest::Client::new();
    let chat = format!("{}/v1/chat/completions", server.url);
    let mut streaming = client.post(&chat).json(&endless(true)).send().await.unwrap();
    streaming.chunk().await.unwrap().unwrap();
    // A connection from before the signal still gets its answers: that the server is about to end.
    let mut before = TcpStream::connect(address(&server)).unwrap();
    let mut say = |path: &str| {
        before.set_read_timeout(Some(SOON)).unwrap();
        before
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .unwrap();
        let mut said = vec![0; 4096];
        let read = before.read(&mut said).unwrap();
        String::from_utf8_lossy(&said[..read]).into_owned()
    };
    assert!(say("/ready").starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    // The idle connection is closed rather than kept waiting, and no other one is taken.
    until("a closed door", async || {
        TcpStream::connect(address(&server)).is_err()
    })
    .await;
    server.signal("TERM");
    let begun = Instant::now();
    assert!(!server.ended(), "an end that breaks requests off is no good one");
    assert!(begun.elapsed() < SOON);
    let told = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    assert!(
        told.contains("a second signal (SIGTERM) ended the server at once: 1 requests were broken off"),
        "{told}"
    );
    assert!(told.contains("\"under_way\":1"), "{told}");
}

/// A signal that comes before the models are there is no failure either.
#[test]
fn a_server_may_be_told_to_end_before_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = command(&folder.path().join("data"), &[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &process.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let ended = process.wait().unwrap();
    // Before it listens for signals, it ends as any process does.
    use std::os::unix::process::ExitStatusExt;
    assert!(ended.success() || ended.signal() == Some(15), "{ended}");
}
