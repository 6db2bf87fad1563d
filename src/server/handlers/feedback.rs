//! `POST /v1/feedback`: a user's verdict on an answer.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::server::app::AppState;
use crate::server::body::JsonBody;
use crate::server::docs::refusals;
use crate::server::docs::schema::log::Feedback;
use crate::server::docs::schema::request::FeedbackRequest;
use crate::server::fault::Fault;
use crate::server::wire::verdict;

/// Feedback
///
/// Answered once it is durable; saying the same again changes nothing, and a verdict is not taken back.
#[utoipa::path(
    post,
    path = "/v1/feedback",
    tag = "log",
    request_body = FeedbackRequest,
    responses((status = 200, description = "It is in the log", body = Feedback), refusals::Judged),
)]
pub(crate) async fn feedback(
    State(state): State<AppState>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let verdict = verdict(&body)?;
    let request = state
        .desk()?
        .feedback(&verdict.request, verdict.satisfied)
        .await?;
    Ok(Json(json!({
        "object": "feedback",
        "request_id": request.to_string(),
        "satisfied": verdict.satisfied,
    })))
}
