//! The Responses API: requests become plain asks, answers become items of a response, whole or event by event.

mod build;
mod event;
mod item;
mod object;
mod page;
mod request;

pub use build::ResponseBuilder;
pub use event::ResponseEvent;
pub use item::Item;
pub use object::deleted_response;
pub use page::{ItemPage, item_page};
pub use request::{ResponseAsk, response_ask};

use crate::units::RequestId;

/// How a response's id begins.
const PREFIX: &str = "resp_";

/// The id of the response that answers a request.
pub fn response_id(request: RequestId) -> String {
    format!("{PREFIX}{:016x}", request.0)
}

/// The request that a response answers; `None` for an id that no response here has.
pub fn answered_request(id: &str) -> Option<RequestId> {
    let digits = id.strip_prefix(PREFIX)?;
    let written = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = u64::from_str_radix(digits, 16).ok()?;
    written.then_some(RequestId(number))
}
