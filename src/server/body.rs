//! Reading a JSON body under a size and a time limit, with complaints in the OpenAI error object
//! (axum's own extractor answers 415 and 422 in plain text, which no OpenAI client understands).

use std::time::Duration;

use axum::body::{BodyDataStream, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::Value;

use super::app::AppState;
use super::fault::Fault;
use super::limits::Limits;

/// Most clients read no answer before they have sent their whole body, so a body that is too large is taken and thrown
/// away: so much of it, and for so long.
const MOST_DISCARDED: u64 = 256 << 20;
const DISCARD_PATIENCE: Duration = Duration::from_secs(5);
/// And at this pace, so that throwing away takes no turns from answering: a pause after each so many bytes.
const DISCARD_STRETCH: u64 = 1 << 20;
const DISCARD_PAUSE: Duration = Duration::from_millis(4);

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
    #[error("the body is larger than {}: send less", crate::config::bytes_text(*.most as u64))]
    TooLarge { most: usize },
    #[error("the body did not arrive within {} s: send it faster", .patience.as_secs_f64())]
    TooSlow { patience: Duration },
    #[error("too many large bodies arrive at once: try again in a moment")]
    NoRoom,
}

/// A request body that is JSON.
pub(super) struct JsonBody(pub Value);

impl FromRequest<AppState> for JsonBody {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Fault> {
        Ok(Self(read(request, state.limits()).await?))
    }
}

async fn read(request: Request, limits: &Limits) -> Result<Value, BodyError> {
    content_type(request.headers())?;
    let mut body = request.into_body().into_data_stream();
    let taken = tokio::time::timeout(limits.body_patience, taken(&mut body, limits)).await;
    let patience = limits.body_patience;
    match taken.unwrap_or(Err(BodyError::TooSlow { patience })) {
        Ok(bytes) => parse(&bytes),
        Err(error) => {
            if matches!(error, BodyError::TooLarge { .. } | BodyError::NoRoom) {
                // Who goes on sending past this sees a broken connection.
                let _ = tokio::time::timeout(DISCARD_PATIENCE, discard(body)).await;
            }
            Err(error)
        }
    }
}

/// The whole body, in as much memory as it takes: what a client announces is not believed.
async fn taken(body: &mut BodyDataStream, limits: &Limits) -> Result<Vec<u8>, BodyError> {
    let most = limits.most_body;
    if HttpBody::size_hint(body).lower() > most as u64 {
        return Err(BodyError::TooLarge { most });
    }
    let mut room = limits.room();
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| BodyError::Broken(error.to_string()))?;
        let length = bytes.len() + piece.len();
        if length > most {
            return Err(BodyError::TooLarge { most });
        }
        if !room.hold(length) {
            return Err(BodyError::NoRoom);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn discard(mut pieces: BodyDataStream) {
    let (mut discarded, mut rest_at) = (0, DISCARD_STRETCH);
    while let Some(Ok(piece)) = pieces.next().await {
        discarded += piece.len() as u64;
        if discarded > MOST_DISCARDED {
            return;
        }
        if discarded >= rest_at {
            rest_at += DISCARD_STRETCH;
            tokio::time::sleep(DISCARD_PAUSE).await;
        }
    }
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
