//! `POST /v1/responses`, and what is kept of them: `GET`, `DELETE` and the items a response was made from.

use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::server::app::AppState;
use crate::server::auth::Owner;
use crate::server::body::JsonBody;
use crate::server::desk::{Answer, DeskError, Piece};
use crate::server::docs::refusals;
use crate::server::docs::schema::responses::{
    self as schema, DeletedResponse, InputItems, ItemOrder, ResponseRequest,
};
use crate::server::docs::schema::stream::ServerSentEvent;
use crate::server::fault::Fault;
use crate::server::query::item_query;
use crate::server::response_stream::{Keeping, ResponseTeller};
use crate::server::sse::streamed;
use crate::server::wire::{
    Delivery, ResponseAsk, ResponseBuilder, deleted_response, item_page, response_ask, to_value,
};
use crate::units::RequestId;

use super::generate::told;

/// A response
///
/// Streams as the Responses API does, event by event; a response that is stored can be looked up and gone on from by its
/// key's holder.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "answers",
    operation_id = "response",
    request_body = ResponseRequest,
    responses(
        (
            status = 200,
            description = "The response",
            content((schema::Response = "application/json"), (ServerSentEvent = "text/event-stream")),
            headers(
                ("x-model" = String, description = "Who answers"),
                ("x-energy-joules" = f64, description = "What the answer cost; not on streams"),
            ),
        ),
        refusals::Generated,
    ),
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    JsonBody(body): JsonBody,
) -> Result<Response, Fault> {
    let asked = response_ask(request, &body)?;
    create_response(&state, request, owner, asked)
        .await
        .map_err(Fault::about_the_input)
}

async fn create_response(
    state: &AppState,
    request: RequestId,
    owner: Owner,
    asked: ResponseAsk,
) -> Result<Response, Fault> {
    let desk = state.desk()?;
    let before = match &asked.echo.previous_response_id {
        Some(previous) => desk.said_up_to(previous, owner.0.as_deref()).await?,
        None => Vec::new(),
    };
    let answer = desk.answer(request, asked.after(&before)).await?;
    let model = answer.model.clone();
    let (delivery, with_logprobs) = (asked.delivery(), asked.with_logprobs());
    let mut echo = asked.echo;
    let own = desk.models().iter().find(|facts| facts.name == model);
    let own = own.map(|facts| &facts.default_sampling);
    let plain = |number: f32| (f64::from(number) * 1e6).round() / 1e6;
    echo.temperature = echo.temperature.or(own.map(|own| plain(own.temperature)));
    echo.top_p = echo.top_p.or(own.map(|own| plain(own.top_p)));
    let keeping = echo.store.then(|| Keeping {
        desk: desk.clone(),
        request,
        owner: owner.0,
        previous: echo.previous_response_id.clone(),
        input: asked.input,
    });
    let builder = ResponseBuilder::new(request, &model, echo, with_logprobs);
    match delivery {
        Delivery::Stream { .. } => {
            let teller = ResponseTeller::new(builder, keeping);
            Ok(told(streamed(teller, answer.pieces), &model, None))
        }
        Delivery::Whole => {
            let (object, joules) = whole(answer, builder, keeping).await?;
            Ok(told(Json(object).into_response(), &model, Some(joules)))
        }
    }
}

/// All of a response, durable if it is to be kept. Dropping the future cancels the request.
async fn whole(
    mut answer: Answer,
    mut builder: ResponseBuilder,
    keeping: Option<Keeping>,
) -> Result<(Value, f64), DeskError> {
    while let Some(piece) = answer.pieces.recv().await {
        match piece {
            Piece::Text { text, logprobs, .. } => drop(builder.text(&text, &logprobs)),
            Piece::Call { id, name, .. } => drop(builder.call(&id, &name)),
            Piece::Arguments { text, .. } => drop(builder.arguments(&text)),
            Piece::Done { finish, .. } => drop(builder.done(finish)),
            Piece::Finished(summary) => {
                let joules = summary.extension.energy.joules;
                let object = to_value(builder.settle(&summary.usage, summary.extension));
                if let Some(keeping) = keeping {
                    keeping.keep(object.clone()).await?;
                }
                return Ok((object, joules));
            }
            Piece::Failed(error) => return Err(error),
        }
    }
    Err(DeskError::Lost)
}

/// A stored response
#[utoipa::path(
    get,
    path = "/v1/responses/{id}",
    tag = "answers",
    operation_id = "stored_response",
    params(("id" = String, Path, description = "Its id", example = "resp_1a20b0184ba00000")),
    responses((status = 200, description = "It", body = schema::Response), refusals::Named),
)]
pub(crate) async fn one(
    State(state): State<AppState>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(state.desk()?.kept(&id, owner.0.as_deref()).await?))
}

/// Forget a response
#[utoipa::path(
    delete,
    path = "/v1/responses/{id}",
    tag = "answers",
    operation_id = "forget_response",
    params(("id" = String, Path, description = "Its id", example = "resp_1a20b0184ba00000")),
    responses((status = 200, description = "It is gone", body = DeletedResponse), refusals::Named),
)]
pub(crate) async fn delete(
    State(state): State<AppState>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    state.desk()?.forget(&id, owner.0.as_deref()).await?;
    Ok(Json(deleted_response(&id)))
}

/// What a response was made from
#[utoipa::path(
    get,
    path = "/v1/responses/{id}/input_items",
    tag = "answers",
    params(
        ("id" = String, Path, description = "Its id", example = "resp_1a20b0184ba00000"),
        ("limit" = Option<u32>, Query, description = "So many at most", minimum = 1, maximum = 100, example = 20),
        ("order" = Option<ItemOrder>, Query, description = "Oldest or newest first"),
        ("after" = Option<String>, Query, description = "The last item of the page before"),
    ),
    responses((status = 200, description = "A page of items", body = InputItems), refusals::Paged),
)]
pub(crate) async fn input_items(
    State(state): State<AppState>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let page = item_query(query.as_deref().unwrap_or_default())?;
    let items = state.desk()?.input_of(&id, owner.0.as_deref()).await?;
    item_page(items, &page).map(Json).ok_or_else(|| {
        let after = page.after.unwrap_or_default();
        Fault::query(
            "after",
            format!("'after' is '{after}', which is no item of this response"),
        )
    })
}
