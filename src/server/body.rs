//! Reading a JSON body under a size and a time limit, with complaints in the OpenAI error object
//! (axum's own extractor answers 415 and 422 in plain text, which no OpenAI client understands).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::fault::Fault;

/// The longest body read. A prompt of a million tokens fits.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// A client that has not sent its body by then is not going to.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the content type is {0}: send JSON with 'content-type: application/json'")]
    ContentType(String),
    #[error("the body is not valid JSON: {0}")]
    Json(String),
    #[error("the body is not UTF-8 text: send JSON in UTF-8")]
    Encoding,
    #[error("the body did not arrive whole: {0}")]
    Broken(String),
    #[error("the body is larger than {} MiB: send less", .most >> 20)]
    TooLarge { most: usize },
    #[error("the body did not arrive within {seconds} s: send it faster")]
    TooSlow { seconds: u64 },
}

/// A request body that is JSON.
pub(super) struct JsonBody(pub Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        Ok(Self(read(request, state).await?))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Value, BodyError> {
    content_type(request.headers())?;
    let bytes = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state))
        .await
        .map_err(|_| BodyError::TooSlow {
            seconds: PATIENCE.as_secs(),
        })?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLarge { most: MOST_BYTES },
            _ => BodyError::Broken(rejection.body_text()),
        })?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Value, BodyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| BodyError::Encoding)?;
    serde_json::from_str(text).map_err(|error| BodyError::Json(error.to_string()))
}

/// JSON, by any of its names. A missing header is taken for JSON: many hand-written clients forget it.
fn content_type(headers: &HeaderMap) -> Result<(), BodyError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or("unreadable");
    let essence = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(BodyError::ContentType(format!("'{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_by_several_names() {
        let typed = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            content_type(&headers).is_ok()
        };
        assert!(typed("application/json"));
        assert!(typed("Application/JSON; charset=utf-8"));
        assert!(typed("application/problem+json"));
        assert!(!typed("text/plain"));
        assert!(!typed("application/x-www-form-urlencoded"));
        assert!(content_type(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        assert!(matches!(parse(b"{\"a\": NaN}"), Err(BodyError::Json(_))));
        assert!(matches!(parse(b"{\"a\": 1e999}"), Err(BodyError::Json(_))));
        assert!(matches!(parse(b"{\"a\""), Err(BodyError::Json(_))));
        assert!(matches!(parse(b""), Err(BodyError::Json(_))));
        assert!(matches!(parse(b"\"\xff\""), Err(BodyError::Encoding)));
        assert!(matches!(
            parse("[".repeat(100_000).as_bytes()),
            Err(BodyError::Json(_))
        ));
    }
}
