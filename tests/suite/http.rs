//! What a client meets: right answers, exact shapes, plain refusals.

use serde_json::{Value, json};

use crate::server::{Server, ask};
use crate::support::questions;

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_who_gave_it_and_what_it_cost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let answer = server.chat(ask("auto", "What is the capital of France?")).await;
    assert_eq!(content(&answer), "Paris");
    let said = &answer["messplus"];
    assert_eq!(said["policy"], "mess-plus");
    assert!(said["energy"]["joules"].as_f64().unwrap() > 0.0);
    assert!(["nvml", "rapl", "modelled"].contains(&said["energy"]["source"].as_str().unwrap()));
    for model in ["demo-small", "demo-medium", "demo-large"] {
        assert!(said["satisfaction"][model].as_f64().unwrap() > 0.0, "{said}");
        assert!(said["expected_joules"][model].as_f64().unwrap() > 0.0, "{said}");
    }
    let id = said["request_id"].as_str().unwrap();
    let (status, _) = server
        .post("/v1/feedback", &json!({"request_id": id, "satisfied": true}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        server
            .post("/v1/feedback", &json!({"request_id": id, "satisfied": true}))
            .await
            .0,
        200
    );
    assert_eq!(
        server
            .post("/v1/feedback", &json!({"request_id": id, "satisfied": false}))
            .await
            .0,
        409
    );
    let unknown = json!({"request_id": "req_0000000000000001", "satisfied": true});
    assert_eq!(server.post("/v1/feedback", &unknown).await.0, 404);
    let record = server.get(&format!("/v1/requests/{id}")).await;
    assert_eq!(
        record["messplus"]["model"].as_str().or(record["model"].as_str()),
        said["model"].as_str()
    );
    assert!(server.interrupt(), "a drained server ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_tells_which_prompt_tokens_were_cached() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let mut body = ask(
        "demo-medium",
        &questions()[..6]
            .iter()
            .map(|(q, _)| q.as_str())
            .collect::<Vec<_>>()
            .join(" "),
    );
    body["n"] = 2.into();
    body["max_tokens"] = 3.into();
    let cached = |answer: &Value| {
        let usage = &answer["usage"];
        (
            usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
            usage["prompt_tokens"].as_u64().unwrap(),
        )
    };
    let (first, prompt) = cached(&server.chat(body.clone()).await);
    // The second answer found the prompt of the first, but a prompt counts once.
    assert_eq!(first, 0);
    assert_eq!(cached(&server.chat(body).await), ((prompt - 1) / 32 * 32, prompt));
    assert!(prompt > 32);
    let metrics = server.text("/metrics").await;
    let pages = "messplus_kv_pages{model=\"demo-medium\",state=\"cached\"} ";
    let at = metrics.find(pages).expect("cached pages are among the metrics") + pages.len();
    assert!(!metrics[at..].starts_with('0'), "nothing is cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_carries_the_same_words_as_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let mut body = ask("demo-medium", "Count from 3 to 12.");
    let whole = server.chat(body.clone()).await;
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let client = reqwest::Client::new();
    let request = client
        .post(format!("{}/v1/chat/completions", server.url))
        .json(&body);
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut events: Vec<&str> = text
        .split("\n\n")
        .filter_map(|e| e.strip_prefix("data: "))
        .collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    let said: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, content(&whole));
    let roles = chunks
        .iter()
        .filter(|c| !c["choices"][0]["delta"]["role"].is_null())
        .count();
    assert_eq!(roles, 1, "the role comes once");
    let usage = chunks.last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    assert!(chunks.iter().any(|c| {
        c["messplus"]["energy"]["joules"]
            .as_f64()
            .is_some_and(|j| j > 0.0)
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_in_the_wire_s_own_words_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let chat = "/v1/chat/completions";
    let with = |field: &str, value: Value| {
        let mut body = ask("auto", "Hello");
        body[field] = value;
        body.to_string()
    };
    let long = "word ".repeat(3000);
    let cases: Vec<(&str, String, u16)> = vec![
        (chat, "{\"model\": ".into(), 400),
        (chat, "[]".into(), 400),
        (chat, "{}".into(), 400),
        (chat, ask("no-such-model", "Hello").to_string(), 404),
        (chat, ask("auto:no-such-sla", "Hello").to_string(), 404),
        (chat, ask("auto", &long).to_string(), 400),
        (chat, with("messages", json!([])), 400),
        (chat, with("messages", json!("Hello")), 400),
        (
            chat,
            with("messages", json!([{"role": "user", "content": 7}])),
            400,
        ),
        (chat, with("temperature", json!("hot")), 400),
        (chat, with("temperature", json!(-1)), 400),
        (chat, with("top_p", json!(2)), 400),
        (chat, with("n", json!(0)), 400),
        (chat, with("max_tokens", json!(-5)), 400),
        (chat, with("max_tokens", json!(100_000)), 400),
        (chat, with("stop", json!({"a": 1})), 400),
        (chat, with("seed", json!("x")), 400),
        (chat, with("messplus", json!({"sla": "nobody's"})), 400),
        (
            chat,
            with("tools", json!([{"type": "function", "function": {}}])),
            400,
        ),
        (chat, with("response_format", json!({"type": "xml"})), 400),
        // No JSON has a NaN; some clients write one all the same.
        (
            chat,
            with("temperature", json!(0)).replace("\"temperature\":0", "\"temperature\":NaN"),
            400,
        ),
        (
            chat,
            with("temperature", json!(0)).replace("\"temperature\":0", "\"temperature\":1e999"),
            400,
        ),
        (
            "/v1/completions",
            json!({"model": "demo-small", "prompt": []}).to_string(),
            400,
        ),
        (
            "/v1/completions",
            json!({"model": "demo-small", "prompt": [999_999]}).to_string(),
            400,
        ),
        (
            "/v1/feedback",
            json!({"request_id": 5, "satisfied": true}).to_string(),
            400,
        ),
        (
            "/v1/feedback",
            json!({"request_id": "req_0000000000000001", "satisfied": 2}).to_string(),
            400,
        ),
        ("/v1/no/such/route", "{}".into(), 404),
        ("/v1/models", "{}".into(), 405),
    ];
    for (path, body, expected) in cases {
        let (status, answer) = server.post_raw(path, "application/json", body.clone()).await;
        let body: String = body.chars().take(120).collect();
        // An SLA nobody promised is a bad value of a known field wherever it stands.
        let fits = status == expected
            || (body.contains("no-such-sla") || body.contains("nobody")) && status / 100 == 4;
        assert!(fits, "{path} {body} → {status} {answer}");
        let error = &answer["error"];
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{path} {body} → {answer}"
        );
        assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some());
    }
    let (status, _) = server
        .post_raw(chat, "text/plain", ask("auto", "Hello").to_string())
        .await;
    assert_eq!(status, 400);
    assert!(!content(&server.chat(ask("auto", "What is 2 + 2?")).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_at_once_get_what_each_would_get_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let bodies: Vec<Value> = questions()
        .iter()
        .take(64)
        .enumerate()
        .map(|(i, (question, _))| {
            let mut body = ask(["demo-small", "demo-medium", "demo-large"][i % 3], question);
            body["seed"] = (i as u64).into();
            body["temperature"] = [0.0, 0.7, 1.2][i / 3 % 3].into();
            body["max_tokens"] = 60.into();
            body
        })
        .collect();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(content(&server.chat(body.clone()).await).to_owned());
    }
    let together = futures_util::future::join_all(bodies.iter().map(|body| server.chat(body.clone()))).await;
    for (answer, alone) in together.iter().zip(&alone) {
        assert_eq!(content(answer), alone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_add_up_to_the_meter_in_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let asked = questions();
    let traffic = async {
        for batch in asked[..240].chunks(12) {
            let body = |(question, reference): &(String, String)| {
                let mut body = ask("auto", question);
                body["messplus"] = json!({"reference": reference, "match": "exact"});
                body
            };
            futures_util::future::join_all(batch.iter().map(|pair| server.chat(body(pair)))).await;
        }
    };
    let watch = async {
        let mut worst = 0f64;
        for _ in 0..40 {
            for device in server.get("/v1/energy").await["devices"].as_array().unwrap() {
                let joules = |name: &str| device[format!("{name}_joules")].as_f64().unwrap();
                let parts = ["request", "exploration", "router", "idle", "load", "unattributed"];
                let sum: f64 = parts.iter().map(|p| joules(p)).sum();
                worst = worst.max((sum - joules("measured")).abs() / joules("measured").max(1e-9));
            }
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        }
        worst
    };
    let ((), worst) = tokio::join!(traffic, watch);
    assert!(worst <= 1e-9, "the accounts miss the meter by {worst}");
    let metrics = server.text("/metrics").await;
    for name in [
        "messplus_requests_total",
        "messplus_request_joules",
        "messplus_device_joules_total",
        "messplus_attributed_joules_total",
        "messplus_tokens_total",
        "messplus_time_to_first_token_seconds",
        "messplus_inter_token_seconds",
        "messplus_queue_depth",
        "messplus_kv_pages",
        "messplus_preemptions_total",
        "messplus_sla_alpha",
        "messplus_sla_satisfaction",
        "messplus_virtual_queue",
        "messplus_explorations_total",
    ] {
        assert!(metrics.contains(name), "{name} is not among the metrics");
    }
}
