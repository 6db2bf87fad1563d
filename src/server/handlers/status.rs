//! What the server says about itself: `/health`, `/ready`, `/v1/energy`, `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::server::app::AppState;
use crate::server::devices::device_object;
use crate::server::fault::Fault;
use crate::server::metrics::TEXT_FORMAT;
use crate::server::scrape;

/// Alive, whatever else.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// All models loaded and new requests welcome.
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    state.desk()?.check_open()?;
    Ok(Json(json!({"status": "ready"})))
}

/// Per device what the meter counted and whose it was; the accounts always add up to the meter.
pub(crate) async fn energy(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    let devices = state.desk()?.devices().await;
    let devices: Vec<Value> = devices.iter().map(device_object).collect();
    Ok(Json(json!({"devices": devices})))
}

/// Prometheus' page.
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, Fault> {
    let page = scrape::page(state.desk()?).await?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response())
}
