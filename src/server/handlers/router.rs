//! `GET /v1/router`, `POST /v1/router/reset`, and the dry run, `POST /v1/route`.

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::{Map, Value, json};

use crate::router::CostReport;
use crate::server::app::AppState;
use crate::server::body::JsonBody;
use crate::server::docs::refusals;
use crate::server::docs::schema::request::{ResetRequest, RouteRequest};
use crate::server::docs::schema::router::{RouteDecision, RouterReport, SlaReport};
use crate::server::fault::Fault;
use crate::server::wire::{chat_ask, completion_ask, reset_target, to_value};
use crate::units::RequestId;

/// The promises and how they are kept
#[utoipa::path(
    get,
    path = "/v1/router",
    tag = "router",
    responses((status = 200, description = "By promise and by model", body = RouterReport), refusals::Loaded),
)]
pub(crate) async fn report(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    let desk = state.desk()?;
    let CostReport {
        overall,
        given_length,
        since_start,
        models,
    } = desk.cost_report();
    let models: Map<String, Value> = models
        .into_iter()
        .map(|(name, report)| (name, to_value(&report)))
        .collect();
    Ok(Json(json!({
        "slas": desk.router_report(),
        "features": desk.features(),
        "cost_model": models,
        "cost_model_overall": {
            "errors": overall,
            "given_length": given_length,
            "since_start": since_start,
        },
    })))
}

/// Begin anew
///
/// Forgives the past of one promise: its queue and counts begin anew; what was learnt of the models stays.
#[utoipa::path(
    post,
    path = "/v1/router/reset",
    tag = "router",
    request_body = ResetRequest,
    responses((status = 200, description = "The promise, as it stands now", body = SlaReport), refusals::Decided),
)]
pub(crate) async fn reset(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let sla = reset_target(&body)?;
    let report = state.desk()?.reset(&sla).await?;
    Ok(Json(to_value(&report)))
}

/// A dry run
///
/// What would be decided for this request, a chat's or a completion's; generates and records nothing.
#[utoipa::path(
    post,
    path = "/v1/route",
    tag = "router",
    request_body = RouteRequest,
    responses((status = 200, description = "The decision", body = RouteDecision), refusals::Decided),
)]
pub(crate) async fn route(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let is_completion = body.get("messages").is_none() && body.get("prompt").is_some();
    let ask = if is_completion {
        completion_ask(&body)?
    } else {
        chat_ask(&body)?
    };
    let routed = state.desk()?.route(request, ask).await;
    let object = if is_completion {
        routed.map_err(|error| Fault::from(error).about_the_prompt())?
    } else {
        routed?
    };
    Ok(Json(object))
}
