//! Models.

use utoipa::ToSchema;

#[derive(ToSchema)]
pub(crate) struct ModelList {
    object: String,
    data: Vec<Model>,
}

/// The router under a promise, or a model of the zoo.
#[derive(ToSchema)]
#[schema(example = json!({"id": "auto", "object": "model", "created": 1795480978, "owned_by": "messplus",
    "max_model_len": 1024, "context_length": 1024, "meta": {"routed": true, "sla": "default"}}))]
pub(crate) struct Model {
    /// What a request's `model` may say.
    id: String,
    object: String,
    /// When the server started, in seconds since 1970.
    created: u64,
    owned_by: String,
    /// Tokens of prompt and answer together.
    max_model_len: u64,
    context_length: u64,
    meta: ModelMeta,
}

#[derive(ToSchema)]
pub(crate) struct ModelMeta {
    /// Whether the router chooses who answers; then `sla` is there, else all the others.
    routed: bool,
    #[schema(nullable = false)]
    sla: Option<String>,
    #[schema(nullable = false)]
    architecture: Option<String>,
    #[schema(nullable = false)]
    parameters: Option<u64>,
    #[schema(nullable = false)]
    vocabulary: Option<u64>,
    #[schema(nullable = false)]
    device: Option<String>,
    #[schema(nullable = false)]
    dtype: Option<String>,
    #[schema(nullable = false)]
    weight_bytes: Option<u64>,
    #[schema(nullable = false)]
    kv_bytes_per_token: Option<u64>,
}
