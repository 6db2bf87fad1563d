//! The HTTP application: routes and what wraps them.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use super::auth::{Keys, guard};
use super::dashboard;
use super::desk::Desk;
use super::docs;
use super::fault::Fault;
use super::handlers::{
    feedback, generate, live, messages, models, requests, responses, router as routing, status,
};
use super::limits::Limits;
use super::loading::{Loading, Progress};
use super::request_id::identify;
use super::wire::unix_seconds;

/// What every handler sees. Copies share it.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    /// Empty while the models load.
    desk: OnceLock<Desk>,
    loading: Loading,
    keys: Keys,
    limits: Limits,
    started: u64,
}

impl AppState {
    /// A server whose models still load: it answers `/health`, and 503 to all that wants a model.
    pub fn loading(loading: Loading, keys: Keys, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            desk: OnceLock::new(),
            loading,
            keys,
            limits,
            started: unix_seconds(),
        }))
    }

    /// The models are loaded: serves from now on. Only the first desk counts.
    pub fn open(&self, desk: Desk) {
        if self.0.desk.set(desk).is_err() {
            tracing::warn!("the server is open already; the second desk is not used");
        }
    }

    pub(super) fn desk(&self) -> Result<&Desk, Fault> {
        self.0.desk.get().ok_or_else(|| Fault::loading(self.progress()))
    }

    /// How far the loading is.
    pub(super) fn progress(&self) -> Progress {
        self.0.loading.progress()
    }

    /// Answers under way go on; nothing new is taken.
    pub(super) fn stop_taking(&self) {
        if let Some(desk) = self.0.desk.get() {
            desk.stop_taking();
        }
    }

    /// Whether the models are loaded.
    pub fn is_open(&self) -> bool {
        self.0.desk.get().is_some()
    }

    /// Answers under way.
    pub fn under_way(&self) -> usize {
        self.0.desk.get().map_or(0, Desk::under_way)
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

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Seconds since 1970.
    pub(super) fn started(&self) -> u64 {
        self.0.started
    }
}

/// All routes. `/health` and the pages' files answer anyone; the rest wants a key where there are keys.
pub fn router(state: AppState) -> Router {
    let served = routes().into_iter().chain(docs::routes());
    served
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
        .merge(dashboard::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), guard))
        .layer(from_fn(identify))
        .layer(from_fn(messages::errors_in_shape))
        .with_state(state)
}

/// The API. Each of its routes stands in the OpenAPI document: a test compares.
fn routes() -> Vec<(&'static str, MethodRouter<AppState>)> {
    vec![
        ("/v1/chat/completions", post(generate::chat_completions)),
        ("/v1/completions", post(generate::completions)),
        ("/v1/responses", post(responses::create)),
        (
            "/v1/responses/{id}",
            get(responses::one).delete(responses::delete),
        ),
        ("/v1/responses/{id}/input_items", get(responses::input_items)),
        ("/v1/messages", post(messages::create)),
        ("/v1/messages/count_tokens", post(messages::count_tokens)),
        ("/v1/models", get(models::list)),
        ("/v1/models/{*id}", get(models::one)),
        ("/v1/feedback", post(feedback::feedback)),
        ("/v1/requests", get(requests::list)),
        ("/v1/requests/{id}", get(requests::one)),
        ("/v1/route", post(routing::route)),
        ("/v1/router", get(routing::report)),
        ("/v1/router/reset", post(routing::reset)),
        ("/v1/energy", get(status::energy)),
        ("/v1/live", get(live::live)),
        ("/health", get(status::health)),
        ("/ready", get(status::ready)),
        ("/metrics", get(status::metrics)),
    ]
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
