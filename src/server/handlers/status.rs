//! What the server says about itself: `/health`, `/ready`, `/v1/energy`, `/metrics`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::energy::DeviceEnergy;
use crate::server::app::AppState;
use crate::server::devices::device_object;
use crate::server::docs::refusals;
use crate::server::docs::schema::energy::Energy;
use crate::server::docs::schema::status::{Health, Ready};
use crate::server::fault::Fault;
use crate::server::metrics::TEXT_FORMAT;
use crate::server::scrape;

/// How long `/health` waits for the meters' word: a driver that hangs must not make the server look dead.
const METERS_PATIENCE: Duration = Duration::from_millis(250);

/// Alive?
///
/// Always, whatever else: `loading` while models load, `draining` while no new request is taken, else `ok`. `meters` says
/// what the joules rest on; `null` while nobody can tell. No key is asked for here, so no board is named.
#[utoipa::path(
    get,
    path = "/health",
    tag = "server",
    security(()),
    responses((status = 200, description = "It is", body = Health)),
)]
pub(crate) async fn health(State(state): State<AppState>) -> Json<Value> {
    let Ok(desk) = state.desk() else {
        return Json(json!({"status": "loading", "loading": state.progress(), "meters": null}));
    };
    let meters = tokio::time::timeout(METERS_PATIENCE, desk.devices()).await.ok();
    let meter = |device: &DeviceEnergy| {
        json!({
            "device": device.name,
            "source": device.source,
            "quantity": device.check.quantity,
            "state": device.check.state,
        })
    };
    let meters: Option<Vec<Value>> = meters.map(|devices| devices.iter().map(meter).collect());
    let status = if desk.check_open().is_ok() {
        "ok"
    } else {
        "draining"
    };
    Json(json!({"status": status, "meters": meters}))
}

/// Ready?
///
/// All models loaded and new requests welcome.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "server",
    responses((status = 200, description = "It is", body = Ready), refusals::Loaded),
)]
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    state.desk()?.check_open()?;
    Ok(Json(json!({"status": "ready"})))
}

/// The accounts
///
/// Per device what the meter counted and whose it was; the accounts always add up to the meter.
#[utoipa::path(
    get,
    path = "/v1/energy",
    tag = "energy",
    responses((status = 200, description = "By device", body = Energy), refusals::Loaded),
)]
pub(crate) async fn energy(State(state): State<AppState>) -> Result<Json<Value>, Fault> {
    let devices = state.desk()?.devices().await;
    let devices: Vec<Value> = devices.iter().map(device_object).collect();
    Ok(Json(json!({"devices": devices})))
}

/// Prometheus' page
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"), refusals::Loaded),
)]
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, Fault> {
    let page = scrape::page(state.desk()?).await?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response())
}
