//! The one place where errors become a status and an OpenAI error object.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::config::bytes_text;
use crate::engine::EngineError;

use super::auth::AuthError;
use super::body::BodyError;
use super::desk::DeskError;
use super::loading::Progress;
use super::wire::WireError;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// When a client may try again where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
/// No client is asked to wait longer for models that load: it could not tell a slow start from a failed one.
const MOST_LOADING: f64 = 60.0;

/// What a client is told when it does not get what it asked for.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
    /// How far the loading is, where that is why.
    loading: Option<Box<Progress>>,
}

impl Fault {
    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code,
            retry_after: None,
            loading: None,
        }
    }

    fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The models are not there yet.
    pub fn loading(progress: Progress) -> Self {
        let left = progress.seconds_left().unwrap_or(1.0).clamp(1.0, MOST_LOADING);
        let message = format!(
            "the models are still loading, {} of {} are there ({} of {}) after {:.0} s: try again in {:.0} s",
            progress.models_loaded,
            progress.models,
            bytes_text(progress.loaded_bytes),
            bytes_text(progress.total_bytes),
            progress.seconds,
            left.ceil(),
        );
        let fault = Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"), message);
        Self {
            loading: Some(Box::new(progress)),
            ..fault.retry_after(Duration::from_secs_f64(left))
        }
    }

    /// An address that nothing answers at.
    pub fn unknown_route(path: &str) -> Self {
        let message = format!("there is nothing at {path}: the API is under /v1");
        Self::new(StatusCode::NOT_FOUND, Some("not_found"), message)
    }

    /// An address that answers, but not to this method.
    pub fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not answer {method}: see the 'allow' header");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Some("method_not_allowed"),
            message,
        )
    }

    /// A part of the query string that makes no sense.
    pub fn query(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about(param)
    }

    /// Names the prompt where a chat would name its messages.
    pub fn about_the_prompt(mut self) -> Self {
        if self.param.as_deref() == Some("messages") {
            self.param = Some("prompt".to_owned());
        }
        self
    }

    /// Names the input where a chat would name its messages, and the format where a response has it.
    pub fn about_the_input(mut self) -> Self {
        let own = match self.param.as_deref() {
            Some("messages") => "input",
            Some("response_format") => "text.format",
            _ => return self,
        };
        self.param = Some(own.to_owned());
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// What Anthropic's clients expect as `error`.
    pub fn anthropic(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            status if status.is_server_error() => "api_error",
            _ => "invalid_request_error",
        };
        json!({"type": kind, "message": self.message})
    }

    /// The body: `{"error": {...}}`, and `loading` while that is why.
    pub fn object(&self) -> Value {
        let mut object = json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }});
        if let Some(progress) = &self.loading {
            object["loading"] = json!(progress);
        }
        object
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        let code = match &error {
            WireError::Body(_) => "invalid_body",
            WireError::Missing { .. } => "missing_required_parameter",
            WireError::Invalid { .. } => "invalid_value",
            WireError::Unsupported { .. } => "unsupported_parameter",
        };
        let fault = Self::new(StatusCode::BAD_REQUEST, Some(code), error.to_string());
        match error.param() {
            Some(param) => fault.about(param),
            None => fault,
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        let (status, code) = match &error {
            BodyError::ContentType(_) | BodyError::Json(_) | BodyError::Encoding | BodyError::Broken(_) => {
                (StatusCode::BAD_REQUEST, "invalid_body")
            }
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            BodyError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            BodyError::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        let fault = Self::new(status, Some(code), error.to_string());
        match error {
            BodyError::NoRoom => fault.retry_after(SOON),
            _ => fault,
        }
    }
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        match error {
            AuthError::Missing | AuthError::Wrong => {
                Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
            }
            AuthError::Busy { retry_after } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                Some("rate_limit_exceeded"),
                message,
            )
            .retry_after(retry_after),
        }
    }
}

impl From<DeskError> for Fault {
    fn from(error: DeskError) -> Self {
        let message = error.to_string();
        match error {
            DeskError::UnknownModel { .. } => {
                Self::new(StatusCode::NOT_FOUND, Some("model_not_found"), message).about("model")
            }
            DeskError::UnknownSla { param, .. } => {
                Self::new(StatusCode::BAD_REQUEST, Some("sla_not_found"), message).about(param)
            }
            DeskError::NeedsNamedModel { param, .. } => {
                Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about(param)
            }
            DeskError::TokenBias { .. } => {
                Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about("logit_bias")
            }
            DeskError::PromptTooLong { .. } => {
                Self::new(StatusCode::BAD_REQUEST, Some("context_length_exceeded"), message).about("messages")
            }
            DeskError::WrongTool { at, .. } => {
                let param = format!("tools[{at}]");
                Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about(param)
            }
            DeskError::UnknownRequest { .. } => {
                Self::new(StatusCode::NOT_FOUND, Some("request_not_found"), message).about("request_id")
            }
            DeskError::UnknownResponse { param, .. } => {
                // What a body refers to is a part of it; what an address refers to is the address.
                let (status, code) = match param {
                    "previous_response_id" => (StatusCode::BAD_REQUEST, "previous_response_not_found"),
                    _ => (StatusCode::NOT_FOUND, "response_not_found"),
                };
                Self::new(status, Some(code), message).about(param)
            }
            DeskError::Contradiction { .. } => {
                Self::new(StatusCode::CONFLICT, Some("feedback_conflict"), message).about("satisfied")
            }
            DeskError::Unanswered { .. } => {
                Self::new(StatusCode::BAD_REQUEST, Some("not_answered"), message).about("request_id")
            }
            DeskError::Draining => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"), message).retry_after(SOON)
            }
            DeskError::Engine(error) => engine_fault(error),
            DeskError::Store(_) | DeskError::Unreadable { .. } | DeskError::Lost => {
                tracing::error!(%message, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Some("internal_error"), message)
            }
        }
    }
}

fn engine_fault(error: EngineError) -> Fault {
    let message = error.to_string();
    match error {
        EngineError::QueueFull { retry_after, .. } => {
            Fault::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message).retry_after(retry_after)
        }
        EngineError::ContextExceeded { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, Some("context_length_exceeded"), message).about("messages")
        }
        EngineError::EmptyPrompt => {
            Fault::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about("prompt")
        }
        EngineError::UnknownToken { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about("prompt")
        }
        EngineError::Template { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about("messages")
        }
        EngineError::Constraint { .. } => {
            Fault::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message).about("response_format")
        }
        EngineError::ShuttingDown => {
            Fault::new(StatusCode::SERVICE_UNAVAILABLE, Some("unavailable"), message).retry_after(SOON)
        }
        _ => {
            tracing::error!(%message, "a lane failed");
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, Some("internal_error"), message)
        }
    }
}

impl From<prometheus::Error> for Fault {
    fn from(error: prometheus::Error) -> Self {
        tracing::error!(%error, "the metrics cannot be written");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Some("internal_error"),
            error.to_string(),
        )
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.object())).into_response();
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            let millis = (time.as_millis() as u64).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
            // OpenAI's clients prefer this one; whole seconds are long where an answer takes a few milliseconds.
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        if self.status == StatusCode::CONFLICT {
            // OpenAI's clients take a conflict for something that passes; this one does not.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
