//! The page at `/`: three files inside the binary that load nothing from anywhere else. They hold no data, so they are
//! shown without a key; the page asks for one when `/v1/live` does.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Paths that are answered without a key.
pub(super) const OPEN_PATHS: [&str; 3] = ["/", "/dashboard.css", "/dashboard.js"];

const PAGE: &str = include_str!("index.html");
const STYLE: &str = include_str!("dashboard.css");
const SCRIPT: &str = include_str!("dashboard.js");

/// What the page may load: itself, and images that stand in it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; \
     form-action 'self'",
);

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let [page, style, script] = OPEN_PATHS;
    Router::new()
        .route(page, get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route(style, get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route(
            script,
            get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }),
        )
}

/// A file of a page, as the page may use it.
pub(super) fn file(media: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        // The next version of the binary brings other files under the same names.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, text).into_response()
}
