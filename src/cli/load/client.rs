//! The server as a client sees it: JSON over HTTP, errors as sentences.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use crate::cli::CliError;

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody there: the server may be gone for good.
    #[error("no answer ({0})")]
    Unreachable(String),
    /// It took longer than the patience of this client.
    #[error("no answer in {0} s")]
    TooSlow(u64),
    /// The server said no, and this is what it said.
    #[error("{status}: {message}")]
    Refused { status: u16, message: String },
    /// It answered, but not as the interface has it.
    #[error("an answer that is not understood ({0})")]
    Strange(String),
}

/// A model of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub name: String,
    /// 0 where the server does not tell.
    pub parameters: u64,
}

/// The largest of the models; of several as large, the last.
pub fn largest(models: &[Served]) -> Option<&Served> {
    models.iter().max_by_key(|model| model.parameters)
}

/// A connection to one server.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    patience: Duration,
}

impl Client {
    /// `address` is what users know a server by: with or without `/v1` at the end.
    pub fn new(address: &str, key: Option<&str>, patience: Duration) -> Result<Self, CliError> {
        let usage = |problem: &str| {
            CliError::Usage(format!(
                "`--url` is {address:?}, {problem}: write it as http://127.0.0.1:8080"
            ))
        };
        let url = Url::parse(address).map_err(|e| usage(&format!("which is no address ({e})")))?;
        if url.scheme() == "https" {
            return Err(usage("and this client speaks plain HTTP only"));
        }
        let Some(host) = url.host_str().filter(|_| url.scheme() == "http") else {
            return Err(usage("which is no address of a server"));
        };
        let mut builder = reqwest::Client::builder().timeout(patience);
        // What runs on this machine is never behind a proxy, whatever the environment says.
        if host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|e| CliError::Failed(format!("HTTP cannot be spoken here ({e})")))?;
        let base = url
            .as_str()
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .trim_end_matches('/')
            .to_string();
        Ok(Self {
            http,
            base,
            key: key.map(Into::into),
            patience,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, CallError> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let lost = |e: reqwest::Error| match e.is_timeout() {
            true => CallError::TooSlow(self.patience.as_secs()),
            false => CallError::Unreachable(root_cause(&e)),
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let body = response.bytes().await.map_err(lost)?;
        let json = serde_json::from_slice::<Value>(&body);
        if status.is_success() {
            return json.map_err(|e| CallError::Strange(e.to_string()));
        }
        let message = json
            .ok()
            .and_then(|j| j["error"]["message"].as_str().map(str::to_string));
        Err(CallError::Refused {
            status: status.as_u16(),
            message: message.unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_lowercase()),
        })
    }

    async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// The models served, in the order of the list. The first call of a run, so its errors say what to do.
    pub async fn models(&self) -> Result<Vec<Served>, CliError> {
        let base = &self.base;
        let answer = self.get("/v1/models").await.map_err(|error| {
            CliError::Failed(match error {
                CallError::Unreachable(why) => {
                    format!("no server answers at {base} ({why}): start one with `messplus serve`, or name its --url")
                }
                CallError::Refused { status, message } if status == StatusCode::UNAUTHORIZED.as_u16() => {
                    format!("the server at {base} asks for a key ({message}): give --api-key or set MESSPLUS_API_KEY")
                }
                other => format!("GET {base}/v1/models failed with {other}: is this a messplus server?"),
            })
        })?;
        let list = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let served = list.iter().filter_map(|model| {
            let name = model["id"]
                .as_str()
                .filter(|id| *id != "auto" && !id.starts_with("auto:"))?;
            Some(Served {
                name: name.into(),
                parameters: model["meta"]["parameters"].as_u64().unwrap_or(0),
            })
        });
        Ok(served.collect())
    }

    pub async fn chat(&self, body: &Value) -> Result<Value, CallError> {
        self.post("/v1/chat/completions", body).await
    }

    pub async fn feedback(&self, request_id: &str, satisfied: bool) -> Result<(), CallError> {
        let body = json!({"request_id": request_id, "satisfied": satisfied});
        self.post("/v1/feedback", &body).await.map(|_| ())
    }

    pub async fn record(&self, request_id: &str) -> Result<Value, CallError> {
        self.get(&format!("/v1/requests/{request_id}")).await
    }

    /// The router's state; `None` where the server does not tell.
    pub async fn router(&self) -> Option<Value> {
        self.get("/v1/router").await.ok()
    }

    /// The energy accounts; `None` where the server does not tell.
    pub async fn energy(&self) -> Option<Value> {
        self.get("/v1/energy").await.ok()
    }
}

/// The innermost reason of an error, which is the one a person can act on, without the system's number.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_the_last_where_sizes_are_not_told() {
        let served = |name: &str, parameters| Served {
            name: name.into(),
            parameters,
        };
        let models = [served("a", 7), served("b", 9), served("c", 8)];
        assert_eq!(largest(&models).map(|m| m.name.as_str()), Some("b"));
        let untold = [served("a", 0), served("b", 0)];
        assert_eq!(largest(&untold).map(|m| m.name.as_str()), Some("b"));
        assert_eq!(largest(&[]), None);
    }

    #[test]
    fn addresses_are_taken_as_users_write_them() {
        let base = |address: &str| Client::new(address, None, Duration::from_secs(1)).map(|c| c.base);
        for address in [
            "http://127.0.0.1:8080",
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:8080/v1",
            "http://127.0.0.1:8080/v1/",
        ] {
            assert_eq!(base(address).unwrap(), "http://127.0.0.1:8080");
        }
        for address in [
            "127.0.0.1:8080",
            "localhost:8080",
            "",
            "ftp://x",
            "https://example.com",
        ] {
            let error = base(address).unwrap_err();
            assert_eq!(error.status(), 2, "{address}");
            assert!(error.to_string().contains("http://127.0.0.1:8080"), "{error}");
        }
    }
}
