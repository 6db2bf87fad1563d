//! Every exchange gets an identity of its own, told in `x-request-id`, used for the request it carries, and named by
//! every line that is logged on its way.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::units::RequestId;

const HEADER: &str = "x-request-id";

/// Gives the request an identity that handlers find among its extensions, and puts it on the response.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::fresh();
    request.extensions_mut().insert(id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = Instant::now();
    let span = tracing::info_span!("exchange", request = %id);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HEADER, value);
    }
    let (status, milliseconds) = (response.status(), begun.elapsed().as_secs_f64() * 1e3);
    if is_told(status) {
        tracing::info!(request = %id, %method, path, status = status.as_u16(), milliseconds, "refused");
    } else {
        tracing::debug!(request = %id, %method, path, status = status.as_u16(), milliseconds, "exchanged");
    }
    response
}

/// What was refused for the client's own fault or failed. A crowd that is sent away is counted, not told one by one.
fn is_told(status: StatusCode) -> bool {
    let crowded = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    (status.is_client_error() || status.is_server_error()) && !crowded
}
