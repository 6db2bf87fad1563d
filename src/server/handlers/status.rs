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
use crate::server::fault::Fault;
use crate::server::metrics::TEXT_FORMAT;
use crate::server::scrape;

/// How long `/health` waits for the meters' word: a driver that hangs must not make the server look dead.
const METERS_PATIENCE: Duration = Duration::from_millis(250);

/// Alive, whatever else. `meters` says what the joules rest on; `null` while nobody can tell. No key is asked for here,
/// so no board is named.
pub(crate) async fn health(State(state): State<AppState>) -> Json<Value> {
    let meters = match state.desk() {
        Ok(desk) => tokio::time::timeout(METERS_PATIENCE, desk.devices()).await.ok(),
        Err(_) => None,
    };
    let meter = |device: &DeviceEnergy| {
        json!({
            "device": device.name,
            "source": device.source,
            "quantity": device.check.quantity,
            "state": device.check.state,
        })
    };
    let meters: Option<Vec<Value>> = meters.map(|devices| devices.iter().map(meter).collect());
    Json(json!({"status": "ok", "meters": meters}))
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
