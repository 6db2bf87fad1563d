//! `GET /v1/models` and `GET /v1/models/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::config::DEFAULT_SLA;
use crate::engine::ModelFacts;
use crate::server::app::AppState;
use crate::server::desk::{Desk, DeskError};
use crate::server::docs::refusals;
use crate::server::docs::schema::models::{Model, ModelList};
use crate::server::fault::Fault;

const OWNER: &str = "messplus";

/// Models
///
/// The router under each promise, then the zoo.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    tag = "answers",
    responses((status = 200, description = "All of them", body = ModelList), refusals::Loaded),
)]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    Ok(Json(
        json!({"object": "list", "data": entries(state.desk()?, state.started())}),
    ))
}

/// One model
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    operation_id = "one_model",
    tag = "answers",
    params(("id" = String, Path, description = "Its name; slashes may stand in it", example = "auto")),
    responses((status = 200, description = "It", body = Model), refusals::Named),
)]
pub(crate) async fn one(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let desk = state.desk()?;
    let found = entries(desk, state.started())
        .into_iter()
        .find(|entry| entry["id"] == id.as_str());
    found.map(Json).ok_or_else(|| {
        let known = desk.models().iter().map(|facts| facts.name.clone()).collect();
        DeskError::UnknownModel { name: id, known }.into()
    })
}

/// The router under each promise, so that clients which offer a list can offer it; then the zoo.
fn entries(desk: &Desk, created: u64) -> Vec<Value> {
    let longest = desk
        .models()
        .iter()
        .map(|facts| facts.max_context)
        .max()
        .unwrap_or(0);
    let routed = desk.slas().iter().map(|sla| {
        let id = if sla == DEFAULT_SLA {
            "auto".to_owned()
        } else {
            format!("auto:{sla}")
        };
        json!({
            "id": id,
            "object": "model",
            "created": created,
            "owned_by": OWNER,
            "max_model_len": longest,
            "context_length": longest,
            "meta": {"routed": true, "sla": sla},
        })
    });
    routed
        .chain(desk.models().iter().map(|facts| entry(facts, created)))
        .collect()
}

fn entry(facts: &ModelFacts, created: u64) -> Value {
    json!({
        "id": facts.name,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "max_model_len": facts.max_context,
        "context_length": facts.max_context,
        "meta": {
            "routed": false,
            "architecture": facts.architecture,
            "parameters": facts.parameters,
            "vocabulary": facts.vocabulary,
            "device": facts.device_name,
            "dtype": facts.dtype,
            "weight_bytes": facts.weight_bytes,
            "kv_bytes_per_token": facts.kv_bytes_per_token,
        },
    })
}
