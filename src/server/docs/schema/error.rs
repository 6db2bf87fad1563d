//! Refusals.

use utoipa::ToSchema;

use super::status::LoadingProgress;

/// OpenAI's error, in one sentence: what is wrong, where, and the mend.
#[derive(ToSchema)]
#[schema(example = json!({"error": {"message": "there is no model 'gpt' here: use auto, demo-small, demo-medium, demo-large",
    "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}))]
pub(crate) struct Refusal {
    error: ErrorObject,
}

/// A refusal that passes by itself.
#[derive(ToSchema)]
#[schema(example = json!({"error": {"message": "the server is shutting down: try again in a moment", "type": "server_error",
    "param": null, "code": "unavailable"}}))]
pub(crate) struct Unavailable {
    error: ErrorObject,
    /// While the models load.
    #[schema(nullable = false)]
    loading: Option<LoadingProgress>,
}

#[derive(ToSchema)]
pub(crate) struct ErrorObject {
    message: String,
    r#type: ErrorKind,
    /// The field of the request that is meant.
    param: Option<String>,
    /// For programs.
    code: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "OpenAI's words")]
pub(crate) enum ErrorKind {
    InvalidRequestError,
    AuthenticationError,
    RateLimitError,
    ServerError,
}
