//! `POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's door.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::server::app::AppState;
use crate::server::body::JsonBody;
use crate::server::desk::{Answer, DeskError, Piece, Summary};
use crate::server::docs::refusals;
use crate::server::docs::schema::messages::{CountRequest, Message, MessageRequest, TokenCount};
use crate::server::docs::schema::stream::ServerSentEvent;
use crate::server::fault::Fault;
use crate::server::message_stream::MessageTeller;
use crate::server::sse::streamed;
use crate::server::wire::{Delivery, MessageBuilder, count_ask, message_ask};
use crate::units::RequestId;

use super::generate::told;

/// A message
///
/// Anthropic's door: its shapes, its events, its errors.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "answers",
    operation_id = "message",
    request_body = MessageRequest,
    responses(
        (
            status = 200,
            description = "The message",
            content((Message = "application/json"), (ServerSentEvent = "text/event-stream")),
            headers(
                ("x-model" = String, description = "Who answers"),
                ("x-energy-joules" = f64, description = "What the answer cost; not on streams"),
                ("request-id" = String, description = "As `x-request-id`"),
            ),
        ),
        refusals::Messaged,
    ),
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<Response, Fault> {
    let ask = message_ask(&body)?;
    let delivery = ask.delivery;
    let answer = state.desk()?.answer(request, ask).await?;
    let model = answer.model.clone();
    let builder = MessageBuilder::new(request, &model);
    match delivery {
        Delivery::Stream { .. } => {
            let teller = MessageTeller::new(builder, answer.prompt_tokens);
            Ok(told(streamed(teller, answer.pieces), &model, None))
        }
        Delivery::Whole => {
            let (builder, summary) = collect(answer, builder).await?;
            let object = builder.whole(&summary.usage, &summary.extension);
            let joules = summary.extension.energy.joules;
            Ok(told(Json(object).into_response(), &model, Some(joules)))
        }
    }
}

/// All of a message. Dropping the future cancels the request.
async fn collect(
    mut answer: Answer,
    mut builder: MessageBuilder,
) -> Result<(MessageBuilder, Box<Summary>), DeskError> {
    while let Some(piece) = answer.pieces.recv().await {
        match piece {
            Piece::Text { text, .. } => drop(builder.text(&text)),
            Piece::Call { id, name, .. } => drop(builder.call(&id, &name)),
            Piece::Arguments { text, .. } => drop(builder.arguments(&text)),
            Piece::Done {
                finish, stopped_by, ..
            } => drop(builder.done(finish, stopped_by)),
            Piece::Finished(summary) => return Ok((builder, summary)),
            Piece::Failed(error) => return Err(error),
        }
    }
    Err(DeskError::Lost)
}

/// Tokens of a message
///
/// Tokens of a prompt; where the router would choose, those of the model that needs most.
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "answers",
    request_body = CountRequest,
    responses((status = 200, description = "So many", body = TokenCount), refusals::Counted),
)]
pub(crate) async fn count_tokens(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let tokens = state.desk()?.prompt_tokens(request, count_ask(&body)?).await?;
    Ok(Json(json!({"input_tokens": tokens})))
}

/// On this door errors have Anthropic's shape, wherever they come from.
pub(crate) async fn errors_in_shape(request: Request, next: Next) -> Response {
    let here = request.uri().path().starts_with("/v1/messages");
    let mut response = next.run(request).await;
    if here && let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let id = response.headers().get("x-request-id").cloned();
        let named = id.as_ref().and_then(|id| id.to_str().ok());
        let object = json!({"type": "error", "error": fault.anthropic(), "request_id": named});
        let (mut parts, _) = response.into_parts();
        parts.headers.remove("content-length");
        response = (parts, Json(object)).into_response();
    }
    if here && let Some(id) = response.headers().get("x-request-id").cloned() {
        response.headers_mut().insert("request-id", id);
    }
    response
}
