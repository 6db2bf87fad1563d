//! The statuses an endpoint may refuse with, each with the error object of its door.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{
    ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
};

macro_rules! refusals {
    ($($(#[$about:meta])* $name:ident in $shape:ident: $($status:literal)+;)+) => {$(
        $(#[$about])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let each = [$($status),+].into_iter();
                each.map(|status: u16| (status.to_string(), RefOr::T(refusal(status, Shape::$shape)))).collect()
            }
        }
    )+};
}

refusals! {
    /// Of what only wants a key.
    Keyed in OpenAi: 401;
    /// Of what wants the models to be there.
    Loaded in OpenAi: 401 500 503;
    /// Of what is looked up by a name in the path.
    Named in OpenAi: 401 404 500 503;
    /// Of what is asked for by a query string.
    Asked in OpenAi: 400 401 500 503;
    /// Of what takes a body that names a model or a promise.
    Decided in OpenAi: 400 401 404 408 413 500 503;
    /// Of what takes a verdict on a request.
    Judged in OpenAi: 400 401 404 408 409 413 500 503;
    /// Of what makes models work.
    Generated in OpenAi: 400 401 404 408 413 429 500 503;
    /// Of what is looked up by a name in the path and asked for by a query string.
    Paged in OpenAi: 400 401 404 500 503;
    /// Of what makes models work on Anthropic's door.
    Messaged in Anthropic: 400 401 404 408 413 429 500 503;
    /// Of what counts there.
    Counted in Anthropic: 400 401 404 408 413 500 503;
}

/// Whose error object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    OpenAi,
    Anthropic,
}

fn refusal(status: u16, shape: Shape) -> Response {
    let about = match status {
        400 => {
            "The request makes no sense, or asks for what this server does not do; `param` names the field."
        }
        401 => "The server has keys, and none of them was given.",
        404 => "There is nothing of that name.",
        408 => "The body did not arrive in time.",
        409 => "It contradicts what was said before.",
        413 => "The body is too large.",
        429 => "The queue is full, or the key has as many requests under way as it may.",
        503 => "The models are still loading (`loading` says how far), or the server is shutting down.",
        _ => "The server failed; the log says why.",
    };
    let error = Ref::from_schema_name(match (shape, status) {
        (Shape::Anthropic, _) => "MessageRefusal",
        (Shape::OpenAi, 503) => "Unavailable",
        (Shape::OpenAi, _) => "Refusal",
    });
    let content = ContentBuilder::new().schema(Some(error)).build();
    let response = ResponseBuilder::new()
        .description(about)
        .content("application/json", content);
    match status {
        429 | 503 => response
            .header(
                "retry-after",
                number("Seconds after which to try again, as measured."),
            )
            .header("retry-after-ms", number("The same in milliseconds.")),
        409 => response.header("x-should-retry", words("`false`: it will not pass by itself.")),
        401 => response.header("www-authenticate", words("`Bearer`")),
        _ => response,
    }
    .build()
}

fn number(about: &str) -> Header {
    header(about, Type::Integer)
}

pub(super) fn words(about: &str) -> Header {
    header(about, Type::String)
}

fn header(about: &str, kind: Type) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind).build();
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(about))
        .build()
}
