//! The OpenAPI document.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{Modify, OpenApi as _};

use super::refusals::words;
use super::schema;
use crate::server::handlers::{
    feedback, generate, live, messages, models, requests, responses, router, status,
};

/// The whole document.
pub(crate) fn document() -> OpenApi {
    Document::openapi()
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "messplus",
        description = "An inference server that hosts a zoo of open-weight models, measures the joules of every request, and \
            routes each to the cheapest model that keeps a promised share of answers satisfying.\n\nWhat OpenAI's API has is \
            as OpenAI has it; what is added stands in objects called `messplus`. Errors are always \
            `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`. Every answer carries `x-request-id`.",
    ),
    tags(
        (name = "answers", description = "OpenAI's and Anthropic's own: models and what they say"),
        (name = "router", description = "Who answers, why, and how the promises are kept"),
        (name = "energy", description = "What was measured, and whose it was"),
        (name = "log", description = "Requests as they were, and what users think of their answers"),
        (name = "server", description = "Is it alive, and how is it doing?"),
    ),
    paths(
        generate::chat_completions,
        generate::completions,
        responses::create,
        responses::one,
        responses::delete,
        responses::input_items,
        messages::create,
        messages::count_tokens,
        models::list,
        models::one,
        router::route,
        router::report,
        router::reset,
        status::energy,
        feedback::feedback,
        requests::one,
        requests::list,
        live::live,
        status::health,
        status::ready,
        status::metrics,
        super::openapi,
    ),
    components(schemas(
        schema::error::Refusal,
        schema::error::Unavailable,
        schema::log::LogFormat,
        schema::messages::MessageRefusal,
        schema::responses::ItemOrder,
        schema::stream::ChatChunk,
        schema::stream::CompletionChunk,
    )),
    modifiers(&Everywhere),
)]
struct Document;

/// What holds for every operation: a key opens it, except where it says that none is needed, and its answers have a name.
struct Everywhere;

const BEARER: &str = "bearer";
const API_KEY: &str = "x-api-key";

impl Modify for Everywhere {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A key of the server's `api_keys_file`. A server without keys takes any, and none.",
            ))
            .build();
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
        let header = ApiKeyValue::with_description(API_KEY, "The same key, as Anthropic's clients send it.");
        components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(header)));
        let open = utoipa::openapi::SecurityRequirement::default;
        let by = |scheme: &str| utoipa::openapi::SecurityRequirement::new(scheme, Vec::<String>::new());
        document.security = Some(vec![open(), by(BEARER), by(API_KEY)]);
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| {
            [item.get.as_mut(), item.post.as_mut(), item.delete.as_mut()]
                .into_iter()
                .flatten()
        });
        for response in operations.flat_map(|operation| operation.responses.responses.values_mut()) {
            if let RefOr::T(response) = response {
                let id = words("The identity of this exchange, and of the request it carried.");
                response.headers.insert("x-request-id".to_owned(), id.into());
                // OpenAPI 3.1 has no word for the shape of events, and a validator holds a schema against each of them.
                if let Some(RefOr::T(events)) = response.content.get_mut("text/event-stream") {
                    events.schema = None;
                }
            }
        }
    }
}
