//! Every exchange gets an identity of its own, told in `x-request-id` and used for the request it carries.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;

use crate::units::RequestId;

const HEADER: &str = "x-request-id";

/// Gives the request an identity that handlers find among its extensions, and puts it on the response.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::fresh();
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
