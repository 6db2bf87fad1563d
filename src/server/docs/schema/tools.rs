//! Functions that a model may call, as chats have them.

use utoipa::ToSchema;

#[derive(ToSchema)]
pub(crate) struct ToolOffer {
    r#type: FunctionWord,
    function: FunctionOffer,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum FunctionWord {
    Function,
}

#[derive(ToSchema)]
pub(crate) struct FunctionOffer {
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$")]
    name: String,
    description: Option<String>,
    /// A JSON Schema of an object.
    #[schema(value_type = Option<Object>)]
    parameters: (),
    /// Hold calls to `parameters`.
    strict: Option<bool>,
}

/// Whether the model has to call one, and what it may call.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum ToolChoice {
    Word(ToolChoiceWord),
    One(NamedFunction),
    Some(AllowedTools),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ToolChoiceWord {
    None,
    Auto,
    Required,
}

#[derive(ToSchema)]
pub(crate) struct NamedFunction {
    r#type: FunctionWord,
    function: FunctionName,
}

#[derive(ToSchema)]
pub(crate) struct FunctionName {
    name: String,
}

#[derive(ToSchema)]
pub(crate) struct AllowedTools {
    r#type: AllowedToolsWord,
    allowed_tools: AllowedToolsList,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum AllowedToolsWord {
    AllowedTools,
}

#[derive(ToSchema)]
pub(crate) struct AllowedToolsList {
    mode: ToolChoiceWord,
    #[schema(min_items = 1)]
    tools: Vec<NamedFunction>,
}

#[derive(ToSchema)]
pub(crate) struct ToolCall {
    id: String,
    r#type: FunctionWord,
    function: CalledFunction,
}

#[derive(ToSchema)]
pub(crate) struct CalledFunction {
    name: String,
    /// JSON, as the model wrote it.
    arguments: String,
}

/// A piece of a call: `id`, `type` and `name` stand in the first alone.
#[derive(ToSchema)]
pub(crate) struct ToolCallPiece {
    index: u32,
    #[schema(nullable = false)]
    id: Option<String>,
    #[schema(nullable = false)]
    r#type: Option<FunctionWord>,
    function: CalledFunctionPiece,
}

#[derive(ToSchema)]
pub(crate) struct CalledFunctionPiece {
    #[schema(nullable = false)]
    name: Option<String>,
    arguments: String,
}
