//! `POST /v1/chat/completions` and `POST /v1/completions`.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::server::app::AppState;
use crate::server::body::JsonBody;
use crate::server::desk::{Answer, DeskError, Piece, Summary};
use crate::server::docs::refusals;
use crate::server::docs::schema::answer::{ChatCompletion, Completion};
use crate::server::docs::schema::request::{ChatRequest, CompletionRequest};
use crate::server::docs::schema::stream::ServerSentEvent;
use crate::server::fault::Fault;
use crate::server::sse::{ChunkTeller, streamed};
use crate::server::wire::{
    Ask, CallChoice, Choice, Chunks, Delivery, Heading, Shape, ToolCall, chat_ask, completion_ask,
    whole_answer,
};
use crate::units::RequestId;

/// Which model answers; known before the first token.
const MODEL_HEADER: HeaderName = HeaderName::from_static("x-model");
/// What the answer cost; on answers that do not stream.
const ENERGY_HEADER: HeaderName = HeaderName::from_static("x-energy-joules");

/// A chat
///
/// With `stream` the answer comes as server-sent events, each a `ChatChunk`, and ends with `data: [DONE]`; while nothing
/// else does, a comment comes every 15 seconds. A client that goes away cancels its request.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "answers",
    request_body = ChatRequest,
    responses(
        (
            status = 200,
            description = "The answer",
            content((ChatCompletion = "application/json"), (ServerSentEvent = "text/event-stream")),
            headers(
                ("x-model" = String, description = "Who answers"),
                ("x-energy-joules" = f64, description = "What the answer cost; not on streams"),
            ),
        ),
        refusals::Generated,
    ),
)]
pub(crate) async fn chat_completions(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<Response, Fault> {
    generate(&state, request, Shape::Chat, chat_ask(&body)?).await
}

/// A completion
///
/// Streams as chats do, in `CompletionChunk`s.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "answers",
    request_body = CompletionRequest,
    responses(
        (
            status = 200,
            description = "The answers, `n` to each prompt",
            content((Completion = "application/json"), (ServerSentEvent = "text/event-stream")),
            headers(
                ("x-model" = String, description = "Who answers"),
                ("x-energy-joules" = f64, description = "What the answers cost; not on streams"),
            ),
        ),
        refusals::Generated,
    ),
)]
pub(crate) async fn completions(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<Response, Fault> {
    let ask = completion_ask(&body)?;
    generate(&state, request, Shape::Text, ask)
        .await
        .map_err(Fault::about_the_prompt)
}

async fn generate(state: &AppState, request: RequestId, shape: Shape, ask: Ask) -> Result<Response, Fault> {
    let (delivery, with_logprobs) = (ask.delivery, ask.logprobs.is_some());
    let named_call = ask
        .tools
        .as_ref()
        .is_some_and(|tools| tools.choice == CallChoice::Named);
    let answer = state.desk()?.answer(request, ask).await?;
    let model = answer.model.clone();
    let heading = Heading::new(shape, request, &model, named_call);
    match delivery {
        Delivery::Stream { include_usage } => {
            let chunks = Chunks::new(heading, answer.choices, include_usage, with_logprobs);
            let response = streamed(ChunkTeller::new(chunks, answer.choices), answer.pieces);
            Ok(told(response, &model, None))
        }
        Delivery::Whole => {
            let (choices, summary) = collect(answer, with_logprobs).await?;
            let object = whole_answer(&heading, &choices, &summary.usage, &summary.extension);
            let joules = summary.extension.energy.joules;
            Ok(told(Json(object).into_response(), &model, Some(joules)))
        }
    }
}

/// Says on a response which model answers, and what the answer cost once that is known.
pub(super) fn told(mut response: Response, model: &str, joules: Option<f64>) -> Response {
    let headers = response.headers_mut();
    if let Ok(model) = HeaderValue::from_str(model) {
        headers.insert(MODEL_HEADER, model);
    }
    let joules = joules.map(|joules| format!("{joules:.6}"));
    if let Some(Ok(joules)) = joules.map(|joules| HeaderValue::from_str(&joules)) {
        headers.insert(ENERGY_HEADER, joules);
    }
    response
}

/// All of an answer. Dropping the future cancels the request.
async fn collect(mut answer: Answer, with_logprobs: bool) -> Result<(Vec<Choice>, Box<Summary>), DeskError> {
    let empty = Choice::empty(with_logprobs);
    let mut choices = vec![empty; answer.choices];
    while let Some(piece) = answer.pieces.recv().await {
        match piece {
            Piece::Text {
                choice,
                text,
                logprobs,
            } => {
                if let Some(choice) = choices.get_mut(choice) {
                    choice.push(&text, logprobs);
                }
            }
            Piece::Call { choice, id, name, .. } => {
                if let Some(choice) = choices.get_mut(choice) {
                    choice.calls.push(ToolCall::new(id, name));
                }
            }
            Piece::Arguments { choice, call, text } => {
                let calls = choices.get_mut(choice).map(|choice| &mut choice.calls);
                if let Some(call) = calls.and_then(|calls| calls.get_mut(call)) {
                    call.function.arguments.push_str(&text);
                }
            }
            Piece::Done { choice, finish, .. } => {
                if let Some(choice) = choices.get_mut(choice) {
                    choice.finish = finish;
                }
            }
            Piece::Finished(summary) => return Ok((choices, summary)),
            Piece::Failed(error) => return Err(error),
        }
    }
    Err(DeskError::Lost)
}
