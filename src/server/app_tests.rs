//! The door before the models are there: what answers, what does not, and how.

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use tokio::net::TcpListener;

use super::super::listen::serve;
use super::super::loading::LoadingPart;
use super::*;
use crate::units::ModelId;

const LARGEST: usize = 64 << 10;

/// A server whose models never load; it goes with the test's runtime.
async fn open(keys: Keys) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let part = |model, name: &str, bytes| LoadingPart {
        model: ModelId(model),
        name: name.into(),
        bytes,
    };
    let parts = vec![part(0, "small", 1 << 20), part(1, "large", 9 << 20)];
    let state = AppState::loading(Loading::new(parts), keys, Limits::new(LARGEST));
    tokio::spawn(serve(listener, None, state, std::future::pending()));
    format!("http://{address}")
}

async fn error(response: Response) -> Value {
    assert!(
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    let body: Value = response.json().await.unwrap();
    let error = body["error"].clone();
    for field in ["message", "type", "param", "code"] {
        assert!(error.get(field).is_some(), "{field} in {body}");
    }
    error
}

#[tokio::test]
async fn while_loading_it_is_alive_but_not_ready() {
    let (url, client) = (open(Keys::default()).await, Client::new());
    assert_eq!(
        client.get(format!("{url}/health")).send().await.unwrap().status(),
        StatusCode::OK
    );
    let chat = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    let waiting = [
        client.get(format!("{url}/ready")),
        client.get(format!("{url}/metrics")),
        client.post(format!("{url}/v1/chat/completions")).json(&chat),
    ];
    for request in waiting {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(error(response).await["code"], "unavailable");
    }
    let health: Value = client
        .get(format!("{url}/health"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(health["status"], "loading");
    let ready: Value = client
        .get(format!("{url}/ready"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for progress in [&health["loading"], &ready["loading"]] {
        assert_eq!(
            (&progress["models_loaded"], &progress["models"]),
            (&json!(0), &json!(2))
        );
        assert_eq!(
            (&progress["loaded_bytes"], &progress["total_bytes"]),
            (&json!(0), &json!(10 << 20))
        );
        assert!(progress["seconds"].as_f64().unwrap() >= 0.0 && progress["now"] == "small");
    }
    assert!(
        ready["error"]["message"]
            .as_str()
            .unwrap()
            .contains("0 of 2 are there (0 B of 10.0 MiB)"),
        "{ready}"
    );
}

/// Every route of the app is in the OpenAPI document with all its methods, and nothing else is.
#[tokio::test]
async fn the_document_holds_every_route() {
    let (url, client) = (open(Keys::default()).await, Client::new());
    let document = serde_json::to_value(docs::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let pages = |path: &&str| !docs::OPEN_PATHS.contains(path);
    let routes: Vec<&str> = routes()
        .into_iter()
        .chain(docs::routes())
        .map(|(path, _)| path)
        .collect();
    let shown = |path: &str| path.replace("{*", "{");
    let served: std::collections::BTreeSet<String> =
        routes.iter().copied().filter(pages).map(shown).collect();
    let documented: std::collections::BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(served, documented);
    for (path, item) in paths {
        let address = format!("{url}{}", path.replace("{id}", "x"));
        for method in ["get", "post", "put", "delete", "patch"] {
            let wanted = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let status = client.request(wanted, &address).send().await.unwrap().status();
            let answers = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(item[method].is_object(), answers, "{method} {path}");
            if answers {
                let responses = &item[method]["responses"];
                assert!(
                    responses[status.as_str()].is_object(),
                    "{method} {path} answers {status}"
                );
            }
        }
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let text = serde_json::to_string(&docs::document()).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let references: Vec<&str> = text.split("\"$ref\":\"#").skip(1).collect();
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

/// Examples are what readers copy.
#[test]
fn every_example_of_the_document_is_an_example_of_its_shape() {
    let document = serde_json::to_value(docs::document()).unwrap();
    let mut examples = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let Some(example) = schema.get("example") else {
            continue;
        };
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap();
        let wrong: Vec<String> = validator.iter_errors(example).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        examples += 1;
    }
    assert!(examples >= 12, "{examples} examples");
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is nowhere"
        );
    }
}

#[tokio::test]
async fn wrong_addresses_methods_and_bodies_get_the_error_object() {
    let (url, client) = (open(Keys::default()).await, Client::new());
    let chat = format!("{url}/v1/chat/completions");
    let cases = [
        (client.get(format!("{url}/v1/nothing")), 404, "not_found"),
        (
            client.request(Method::DELETE, format!("{url}/health")),
            405,
            "method_not_allowed",
        ),
        (
            client
                .post(&chat)
                .body("{")
                .header("content-type", "application/json"),
            400,
            "invalid_body",
        ),
        (
            client.post(&chat).body("{}").header("content-type", "text/plain"),
            400,
            "invalid_body",
        ),
        (
            client.post(&chat).json(&json!({"messages": []})),
            400,
            "missing_required_parameter",
        ),
        (
            client.post(&chat).body(vec![b' '; LARGEST + 1]),
            413,
            "body_too_large",
        ),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(error(response).await["code"], code);
    }
}

#[tokio::test]
async fn keys_guard_everything_but_health() {
    let (url, client) = (open(Keys::new(vec!["right".into()], None)).await, Client::new());
    assert_eq!(
        client.get(format!("{url}/health")).send().await.unwrap().status(),
        StatusCode::OK
    );
    for path in ["/ready", "/metrics", "/v1/models", "/openapi.json", "/v1/nothing"] {
        let response = client.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(error(response).await["code"], "invalid_api_key");
    }
    let with_key = client
        .get(format!("{url}/v1/nothing"))
        .bearer_auth("right")
        .send()
        .await
        .unwrap();
    assert_eq!(with_key.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_pages_need_no_key_and_name_no_other_host() {
    let keys = Keys::new(vec!["k".into()], None);
    let (url, client) = (open(keys).await, Client::new());
    for (path, media) in [
        ("/", "text/html"),
        ("/dashboard/style.css", "text/css"),
        ("/dashboard/main.js", "text/javascript"),
        ("/dashboard/panels.js", "text/javascript"),
        ("/docs", "text/html"),
        ("/docs.css", "text/css"),
        ("/docs.js", "text/javascript"),
    ] {
        let response = client.get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with(media)
        );
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'self'")
        );
        let text = response.text().await.unwrap();
        let hosts = text.matches("://").count() - text.matches("http://www.w3.org/").count();
        assert_eq!(hosts, 0, "{path}");
    }
    let response = client.get(format!("{url}/v1/live")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
