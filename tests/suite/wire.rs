//! Golden exchanges: what is sent, and all that comes back, for every shape of every door. Ids, times, joules and
//! log-probabilities are masked; all else is compared to the letter.
//!
//! `MESSPLUS_BLESS=1 cargo test --test suite wire` writes what the server says into the files: read the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::server::{Server, command};
use crate::support::root;

/// What a stored exchange says of its answer.
const ANSWER: [&str; 3] = ["status", "answer", "events"];

#[tokio::test(flavor = "multi_thread")]
async fn every_door_says_what_it_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let bless = std::env::var_os("MESSPLUS_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files() {
        let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let exchanges = file["exchanges"].as_array_mut().unwrap();
        let mut heard = Vec::new();
        let mut masks = Masks::default();
        for (at, exchange) in exchanges.iter_mut().enumerate() {
            let answer = send(&server, exchange, &heard).await;
            let masked = masks.mask(None, &answer);
            heard.push(answer);
            let stored: Map<String, Value> = ANSWER
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), exchange.get(*name)?.clone())))
                .collect();
            if bless {
                for name in ANSWER {
                    exchange.as_object_mut().unwrap().shift_remove(name);
                }
                exchange
                    .as_object_mut()
                    .unwrap()
                    .extend(masked.as_object().unwrap().clone());
            } else if Value::Object(stored.clone()) != masked {
                let stored = serde_json::to_string_pretty(&stored).unwrap();
                let masked = serde_json::to_string_pretty(&masked).unwrap();
                wrong.push(format!(
                    "{} {at}:\n{}",
                    path.display(),
                    first_difference(&stored, &masked)
                ));
            }
        }
        if bless {
            std::fs::write(&path, serde_json::to_string_pretty(&file).unwrap() + "\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A server with two keys.
fn guarded(folder: &Path) -> Server {
    std::fs::write(folder.join("keys.txt"), "first\nsecond\n").unwrap();
    let zoo = folder.join("zoo.toml");
    let lines = "[server]\napi_keys_file = \"keys.txt\"\n[energy]\nmeter = \"modelled\"\n\
                 [[model]]\nname = \"demo-small\"\nsource = \"demo:small\"\n";
    std::fs::write(&zoo, lines).unwrap();
    Server::spawn(command(
        &folder.join("data"),
        &["--zoo", &zoo.display().to_string()],
    ))
}

async fn asked(server: &Server, key: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("{}{path}", server.url);
    let request = reqwest::Client::new()
        .request(method.parse().unwrap(), url)
        .bearer_auth(key);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_their_owners_alone_and_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(folder.path());
    let body = |more: Value| {
        let mut body = json!({"model": "demo-small", "input": "What is 2 + 3?", "max_output_tokens": 8});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let (status, made) = asked(&server, "first", "POST", "/v1/responses", body(json!({}))).await;
    assert_eq!(status, 200, "{made}");
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());
    server.kill();
    let server = guarded(folder.path());
    assert_eq!(
        asked(&server, "first", "GET", &path, None).await,
        (200, made.clone())
    );
    let onward = body(json!({"previous_response_id": made["id"]}));
    for (key, status) in [("first", 200), ("second", 400)] {
        let (got, answer) = asked(&server, key, "POST", "/v1/responses", onward.clone()).await;
        assert_eq!(got, status, "{answer}");
    }
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/input_items")),
        ("DELETE", path.clone()),
    ] {
        assert_eq!(
            asked(&server, "second", method, &path, None).await.0,
            404,
            "{method} {path}"
        );
    }
    assert_eq!(asked(&server, "first", "DELETE", &path, None).await.0, 200);
    server.kill();
    let server = guarded(folder.path());
    assert_eq!(asked(&server, "first", "GET", &path, None).await.0, 404);
    let (_, refused) = asked(&server, "nobody", "POST", "/v1/messages", Some(json!({}))).await;
    assert_eq!(refused["error"]["type"], "authentication_error", "{refused}");
}

fn files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("tests/fixtures/wire")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// `{2.output.0.call_id}` stands for that field of what the third exchange of the file was answered.
fn filled(value: &Value, heard: &[Value]) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            while let Some((before, rest)) = text.split_once('{') {
                let Some((path, after)) = rest.split_once('}') else {
                    break;
                };
                let Some((number, field)) = path.split_once('.') else {
                    break;
                };
                let Ok(number) = number.parse::<usize>() else {
                    break;
                };
                let pointer = format!("/answer/{}", field.replace('.', "/"));
                let found = heard[number]
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .expect(path);
                text = format!("{before}{found}{after}");
            }
            text.into()
        }
        Value::Array(items) => items.iter().map(|item| filled(item, heard)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), filled(value, heard)))
            .collect(),
        other => other.clone(),
    }
}

async fn send(server: &Server, exchange: &Value, heard: &[Value]) -> Value {
    let path = filled(&exchange["path"], heard);
    let method = exchange["method"].as_str().unwrap().parse().unwrap();
    let url = format!("{}{}", server.url, path.as_str().unwrap());
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(body) = exchange.get("body") {
        request = request.json(&filled(body, heard));
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert!(header("x-request-id").starts_with("req_"));
    let media = header("content-type");
    if media != "text/event-stream" {
        assert_eq!(media, "application/json");
        return json!({"status": status, "answer": response.json::<Value>().await.unwrap()});
    }
    assert_eq!(header("cache-control"), "no-cache");
    let text = response.text().await.unwrap();
    json!({"status": status, "events": text.split_terminator("\n\n").filter_map(event).collect::<Vec<_>>()})
}

/// An event as its JSON, under its name if it has one; `None` for a comment.
fn event(block: &str) -> Option<Value> {
    let mut name = None;
    let mut data = None;
    for line in block.lines().filter(|line| !line.starts_with(':')) {
        match line.split_once(": ").expect(line) {
            ("event", text) => name = Some(text),
            ("data", text) => data = Some(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
            _ => panic!("{line}"),
        }
    }
    let data: Value = data?;
    if let Some(name) = name {
        assert_eq!(data["type"], name, "an event is called what its data says");
    }
    Some(data)
}

/// Puts the same sign for the same id wherever it stands, and plain signs for what no two runs share.
#[derive(Default)]
struct Masks {
    ids: BTreeMap<String, usize>,
}

impl Masks {
    fn mask(&mut self, name: Option<&str>, value: &Value) -> Value {
        match (name, value) {
            (Some("created" | "created_at" | "completed_at"), Value::Number(_)) => "TIME".into(),
            (Some("logprob" | "token_logprobs" | "top_logprobs"), Value::Number(n)) if n.is_f64() => {
                "LOGPROB".into()
            }
            (Some("messplus"), value) => masked_numbers(&self.mask(None, value)),
            (_, Value::String(text)) => self.mask_ids(text).into(),
            (name, Value::Array(items)) => items.iter().map(|item| self.mask(name, item)).collect(),
            (Some("top_logprobs"), Value::Object(map)) if !map.contains_key("token") => map
                .keys()
                .map(|token| (token.clone(), Value::from("LOGPROB")))
                .collect(),
            (_, Value::Object(map)) => map
                .iter()
                .map(|(name, value)| (name.clone(), self.mask(Some(name), value)))
                .collect(),
            (_, other) => other.clone(),
        }
    }

    /// Ids hold sixteen hexadecimal digits that tell requests apart.
    fn mask_ids(&mut self, text: &str) -> String {
        const DIGITS: usize = 16;
        let mut masked = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['_', '-']) {
            let (before, after) = rest.split_at(at + 1);
            masked += before;
            rest = after;
            let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            if rest.len() < DIGITS || !rest.is_char_boundary(DIGITS) || !rest[..DIGITS].chars().all(hex) {
                continue;
            }
            let next = self.ids.len();
            let number = *self.ids.entry(rest[..DIGITS].to_owned()).or_insert(next);
            masked += &format!("#{number}#");
            rest = &rest[DIGITS..];
        }
        masked + rest
    }
}

fn masked_numbers(value: &Value) -> Value {
    match value {
        Value::Number(_) => "NUMBER".into(),
        Value::Bool(_) => "BOOL".into(),
        Value::Array(items) => items.iter().map(masked_numbers).collect(),
        Value::Object(map) => {
            let masked = |(name, value): (&String, &Value)| match name.as_str() {
                // The meter of the machine.
                "source" => (name.clone(), Value::from("SOURCE")),
                _ => (name.clone(), masked_numbers(value)),
            };
            map.iter().map(masked).collect()
        }
        other => other.clone(),
    }
}

/// The first line that differs, with those before it.
fn first_difference(stored: &str, said: &str) -> String {
    let at = stored
        .lines()
        .zip(said.lines())
        .take_while(|(one, other)| one == other)
        .count();
    let lines = |text: &str| -> String {
        text.lines()
            .skip(at.saturating_sub(3))
            .take(8)
            .map(|line| format!("{line}\n"))
            .collect()
    };
    format!("stored:\n{}said:\n{}", lines(stored), lines(said))
}
