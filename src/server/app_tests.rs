//! The door before the models are there: what answers, what does not, and how.

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use tokio::net::TcpListener;

use super::super::listen::serve;
use super::*;

/// A server whose models never load; it goes with the test's runtime.
async fn open(keys: Keys) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = AppState::loading(keys);
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
            client.post(&chat).body(vec![b' '; MOST_BYTES + 1]),
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
    for path in ["/ready", "/metrics", "/v1/models", "/v1/nothing"] {
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
async fn the_dashboard_needs_no_key_and_names_no_other_host() {
    let keys = Keys::new(vec!["k".into()], None);
    let (url, client) = (open(keys).await, Client::new());
    for (path, media) in [
        ("/", "text/html"),
        ("/dashboard/style.css", "text/css"),
        ("/dashboard/main.js", "text/javascript"),
        ("/dashboard/panels.js", "text/javascript"),
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
