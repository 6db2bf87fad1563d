//! The page at `/`: files inside the binary that load nothing from anywhere else. They hold no data, so they are
//! shown without a key; the page asks for one when `/v1/live` does.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Paths that are answered without a key.
pub(super) const OPEN_PATHS: [&str; FILES.len()] = {
    let mut paths = [""; FILES.len()];
    let mut at = 0;
    while at < FILES.len() {
        paths[at] = FILES[at].0;
        at += 1;
    }
    paths
};

/// Where each file is found, what it is, and the file itself.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/dashboard/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    ("/dashboard/main.js", SCRIPT, include_str!("main.js")),
    ("/dashboard/charts.js", SCRIPT, include_str!("charts.js")),
    ("/dashboard/chat.js", SCRIPT, include_str!("chat.js")),
    ("/dashboard/panels.js", SCRIPT, include_str!("panels.js")),
    ("/dashboard/requests.js", SCRIPT, include_str!("requests.js")),
    ("/dashboard/stream.js", SCRIPT, include_str!("stream.js")),
    ("/dashboard/words.js", SCRIPT, include_str!("words.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page may load: itself, and images that stand in it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
);

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, media, text)| {
            router.route(path, get(move || async move { file(media, text) }))
        })
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
