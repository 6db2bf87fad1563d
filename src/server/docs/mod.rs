//! What the API is, told by the program itself: an OpenAPI document made from the handlers' annotations, and a page of
//! our own that shows it without asking any other host for anything.

mod document;
pub(super) mod refusals;
pub(super) mod schema;

use axum::Json;
use axum::routing::{MethodRouter, get};

use super::app::AppState;
use super::dashboard::file;

pub(super) use document::document;

const PAGE: &str = include_str!("index.html");
const STYLE: &str = include_str!("docs.css");
const SCRIPT: &str = include_str!("docs.js");

/// The page's files: they hold no data and are shown without a key.
pub(super) const OPEN_PATHS: [&str; 3] = ["/docs", "/docs.css", "/docs.js"];

pub(super) fn routes() -> [(&'static str, MethodRouter<AppState>); 4] {
    let [page, style, script] = OPEN_PATHS;
    [
        (page, get(|| async { file("text/html; charset=utf-8", PAGE) })),
        (style, get(|| async { file("text/css; charset=utf-8", STYLE) })),
        (
            script,
            get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }),
        ),
        ("/openapi.json", get(openapi)),
    ]
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    responses((status = 200, description = "The document", body = Object), refusals::Keyed),
)]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
