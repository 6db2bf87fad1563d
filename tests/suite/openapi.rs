//! The OpenAPI document against a running server: what it answers has the shapes and statuses that the document gives,
//! down to the last field.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::{Server, ask};

/// The document, and shapes that know no field but their own.
struct Document(Value);

impl Document {
    async fn of(server: &Server) -> Self {
        let mut document = server.get("/openapi.json").await;
        for schema in document["components"]["schemas"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            close(schema);
        }
        Self(document)
    }

    /// Complains about an answer that the document does not foretell.
    fn hold(&self, operation: &Value, what: &str, status: u16, media: &str, body: &str) {
        let response = &operation["responses"][status.to_string()];
        assert!(
            response.is_object(),
            "{what} answers {status}, which is not documented"
        );
        let essence = media.split(';').next().unwrap().trim();
        let content = &response["content"][essence];
        assert!(
            content.is_object(),
            "{what} answers {status} in {media}, which is not documented"
        );
        if essence == "application/json" {
            let body = serde_json::from_str(body).unwrap();
            self.fits(&content["schema"], &body, what);
        }
    }

    fn fits(&self, schema: &Value, instance: &Value, what: &str) {
        let mut whole = schema.clone();
        whole["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(instance)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?} in {instance:#}");
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not documented");
        operation
    }
}

/// Forbids every field that a shape does not name. A shape that is put together from others is left open.
fn close(schema: &mut Value) {
    if schema["properties"].is_object() && schema.get("additionalProperties").is_none() {
        schema["additionalProperties"] = json!(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_what_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let document = Document::of(&server).await;
    let client = reqwest::Client::new();

    let mut with_reference = ask("auto", "What is the capital of France?");
    with_reference["messplus"] = json!({"reference": "Paris", "match": "exact"});
    let mut with_logprobs = ask("demo-small", "What is 1 + 1?");
    with_logprobs["logprobs"] = json!(true);
    with_logprobs["top_logprobs"] = json!(2);
    let answered = server.chat(with_reference.clone()).await;
    let id = answered["messplus"]["request_id"].as_str().unwrap().to_owned();
    let feedback = |satisfied: bool| json!({"request_id": id, "satisfied": satisfied});
    let completion = json!({"model": "demo-small", "prompt": ["One", "Two"], "max_tokens": 3, "logprobs": 1});

    let mut to_be_kept = json!({"model": "demo-small", "input": "What is 1 + 1?", "max_output_tokens": 8});
    let (status, kept) = server.post("/v1/responses", &to_be_kept).await;
    assert_eq!(status, 200, "{kept}");
    let kept = format!("/v1/responses/{}", kept["id"].as_str().unwrap());
    to_be_kept["store"] = json!(false);
    to_be_kept["tools"] = json!([{"type": "function", "name": "add", "parameters": {"type": "object",
        "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}}]);
    let mut calling = ask("demo-small", "What is 1 + 1?");
    calling["max_tokens"] = json!(64);
    calling["tool_choice"] = json!("required");
    calling["tools"] = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object",
        "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}}}]);
    let message =
        json!({"model": "demo-small", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]});

    let gets = [
        ("/v1/models", "/v1/models".to_owned()),
        ("/v1/models/{id}", "/v1/models/demo-small".to_owned()),
        ("/v1/models/{id}", "/v1/models/auto".to_owned()),
        ("/v1/models/{id}", "/v1/models/no/such".to_owned()),
        ("/v1/requests/{id}", format!("/v1/requests/{id}")),
        ("/v1/requests/{id}", "/v1/requests/nothing".to_owned()),
        ("/v1/requests", "/v1/requests?limit=5".to_owned()),
        ("/v1/requests", "/v1/requests?format=csv".to_owned()),
        ("/v1/requests", "/v1/requests?limit=0".to_owned()),
        ("/v1/router", "/v1/router".to_owned()),
        ("/v1/energy", "/v1/energy".to_owned()),
        ("/v1/responses/{id}", kept.clone()),
        ("/v1/responses/{id}", "/v1/responses/nothing".to_owned()),
        (
            "/v1/responses/{id}/input_items",
            format!("{kept}/input_items?limit=1&order=asc"),
        ),
        (
            "/v1/responses/{id}/input_items",
            format!("{kept}/input_items?limit=0"),
        ),
        ("/health", "/health".to_owned()),
        ("/ready", "/ready".to_owned()),
        ("/metrics", "/metrics".to_owned()),
        ("/openapi.json", "/openapi.json".to_owned()),
    ];
    let posts = [
        ("/v1/chat/completions", with_reference),
        ("/v1/chat/completions", with_logprobs),
        ("/v1/chat/completions", ask("no-such-model", "Hello")),
        ("/v1/chat/completions", json!({"model": "auto"})),
        ("/v1/completions", completion.clone()),
        ("/v1/completions", json!({"model": "demo-small", "prompt": []})),
        ("/v1/chat/completions", calling),
        ("/v1/responses", to_be_kept),
        ("/v1/responses", json!({"model": "demo-small"})),
        ("/v1/messages", message.clone()),
        (
            "/v1/messages",
            json!({"model": "no-such-model", "max_tokens": 8, "messages": message["messages"]}),
        ),
        ("/v1/messages/count_tokens", message),
        ("/v1/messages/count_tokens", json!({})),
        ("/v1/route", ask("auto", "Hello")),
        ("/v1/route", ask("demo-small", "Hello")),
        (
            "/v1/feedback",
            json!({"request_id": "req_0000000000000001", "satisfied": true}),
        ),
        ("/v1/feedback", feedback(true)),
        ("/v1/feedback", feedback(false)),
        ("/v1/router/reset", json!({"sla": "default"})),
        ("/v1/router/reset", json!({"sla": 5})),
    ];
    let mut seen = BTreeSet::new();
    let gets = gets.map(|(path, address)| (Method::GET, path, address, None));
    let posts = posts.map(|(path, body)| (Method::POST, path, path.to_owned(), Some(body)));
    let last = [(Method::DELETE, "/v1/responses/{id}", kept, None)];
    for (method, path, address, body) in gets.into_iter().chain(posts).chain(last) {
        let what = format!("{method} {address} {}", body.as_ref().unwrap_or(&Value::Null));
        let operation = document.operation(method.as_str().to_lowercase().as_str(), path);
        let mut request = client.request(method.clone(), format!("{}{address}", server.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        for header in documented_headers(operation, status) {
            assert!(response.headers().contains_key(&header), "{what} has no {header}");
        }
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let body = response.text().await.unwrap();
        document.hold(operation, &what, status.as_u16(), &media, &body);
        seen.insert((method.to_string(), path));
    }
    // Only the streams are left, which never end or end in events.
    let all = document.0["paths"].as_object().unwrap().iter();
    let all: usize = all
        .map(|(_, item)| {
            ["get", "post", "delete"]
                .iter()
                .filter(|m| item[**m].is_object())
                .count()
        })
        .sum();
    assert_eq!(seen.len() + 1, all, "{seen:?}");

    for (path, shape, mut body) in [
        (
            "/v1/chat/completions",
            "ChatChunk",
            ask("auto", "Count from 1 to 4."),
        ),
        ("/v1/completions", "CompletionChunk", completion),
    ] {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let request = client.post(format!("{}{path}", server.url)).json(&body);
        let text = request.send().await.unwrap().text().await.unwrap();
        let chunks: Vec<&str> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect();
        assert!(chunks.len() > 3 && chunks.last() == Some(&"[DONE]"), "{text}");
        let schema = json!({"$ref": format!("#/components/schemas/{shape}")});
        for chunk in &chunks[..chunks.len() - 1] {
            document.fits(&schema, &serde_json::from_str(chunk).unwrap(), path);
        }
    }
    assert!(server.interrupt());
}

/// Headers that a status always has. Only streams lack the joules.
fn documented_headers(operation: &Value, status: StatusCode) -> Vec<String> {
    let headers = &operation["responses"][status.as_str()]["headers"];
    let names = headers.as_object().into_iter().flat_map(serde_json::Map::keys);
    names.cloned().collect()
}
