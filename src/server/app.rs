//! The HTTP application: routes and what wraps them.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::auth::{Keys, guard};
use super::body::MOST_BYTES;
use super::dashboard;
use super::desk::{Desk, DeskError};
use super::fault::Fault;
use super::handlers::{
    feedback, generate, live, messages, models, requests, responses, router as routing, status,
};
use super::request_id::identify;
use super::wire::unix_seconds;

/// What every handler sees. Copies share it.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    /// Empty while the models load.
    desk: OnceLock<Desk>,
    keys: Keys,
    started: u64,
}

impl AppState {
    /// A server whose models still load: it answers `/health`, and 503 to all else.
    pub fn loading(keys: Keys) -> Self {
        Self(Arc::new(Shared {
            desk: OnceLock::new(),
            keys,
            started: unix_seconds(),
        }))
    }

    /// A server that is ready from the start.
    pub fn new(desk: Desk, keys: Keys) -> Self {
        let state = Self::loading(keys);
        state.open(desk);
        state
    }

    /// The models are loaded: serves from now on. Only the first desk counts.
    pub fn open(&self, desk: Desk) {
        if self.0.desk.set(desk).is_err() {
            tracing::warn!("the server is open already; the second desk is not used");
        }
    }

    pub(super) fn desk(&self) -> Result<&Desk, Fault> {
        self.0.desk.get().ok_or_else(|| DeskError::NotReady.into())
    }

    /// Answers under way go on; nothing new is taken.
    pub(super) fn stop_taking(&self) {
        if let Some(desk) = self.0.desk.get() {
            desk.stop_taking();
        }
    }

    /// Ends what still runs and writes everything down.
    pub(super) async fn close(&self) {
        if let Some(desk) = self.0.desk.get() {
            desk.close().await;
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Seconds since 1970.
    pub(super) fn started(&self) -> u64 {
        self.0.started
    }
}

/// All routes. `/health` and the dashboard's files answer anyone; the rest wants a key where there are keys.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(generate::chat_completions))
        .route("/v1/completions", post(generate::completions))
        .route("/v1/responses", post(responses::create))
        .route(
            "/v1/responses/{id}",
            get(responses::one).delete(responses::delete),
        )
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/feedback", post(feedback::feedback))
        .route("/v1/requests", get(requests::list))
        .route("/v1/requests/{id}", get(requests::one))
        .route("/v1/route", post(routing::route))
        .route("/v1/router", get(routing::report))
        .route("/v1/router/reset", post(routing::reset))
        .route("/v1/energy", get(status::energy))
        .route("/v1/live", get(live::live))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .merge(dashboard::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(from_fn_with_state(state.clone(), guard))
        .layer(from_fn(identify))
        .layer(from_fn(messages::errors_in_shape))
        .with_state(state)
}

async fn unknown_route(uri: Uri) -> Fault {
    Fault::unknown_route(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Fault {
    Fault::wrong_method(method.as_str(), uri.path())
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
