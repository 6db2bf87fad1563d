//! `GET /v1/requests/{id}` and `GET /v1/requests`, the log as JSON or as a trace for `messplus replay`.

use std::io::{self, BufWriter, Write};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;

use crate::server::app::AppState;
use crate::server::desk::Desk;
use crate::server::docs::refusals;
use crate::server::docs::schema::log::{LogFormat, RequestList, RequestRecord};
use crate::server::fault::Fault;
use crate::server::query::{Format, log_query};

/// Bytes of an export that are handed on at a time, and how many such pieces may wait for a slow reader.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// One request
///
/// Decision, tokens, timing, final joules, feedback.
#[utoipa::path(
    get,
    path = "/v1/requests/{id}",
    operation_id = "one_request",
    tag = "log",
    params(("id" = String, Path, description = "As the answer's `messplus.request_id` has it", example = "req_1a20b0184ba00000")),
    responses((status = 200, description = "Its record", body = RequestRecord), refusals::Named),
)]
pub(crate) async fn one(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    Ok(Json(state.desk()?.request(&id).await?))
}

/// Requests
///
/// Newest first, or with `format=csv` the whole log, oldest first, in the columns that `messplus replay` reads.
#[utoipa::path(
    get,
    path = "/v1/requests",
    operation_id = "list_requests",
    tag = "log",
    params(
        ("limit" = Option<u32>, Query, description = "So many at most", minimum = 1, maximum = 1000, example = 50),
        ("before" = Option<String>, Query, description = "Older than this request", pattern = "^req_[0-9a-f]{16}$"),
        ("model" = Option<String>, Query, description = "Answered by this model"),
        ("sla" = Option<String>, Query, description = "Under this promise"),
        ("format" = Option<LogFormat>, Query, description = "json or csv"),
    ),
    responses(
        (
            status = 200,
            description = "The log",
            content((RequestList = "application/json"), (String = "text/csv")),
        ),
        refusals::Asked,
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Fault> {
    let (filter, format) = log_query(query.as_deref().unwrap_or_default())?;
    let desk = state.desk()?;
    if format == Format::Csv {
        return Ok(export(desk));
    }
    let limit = filter.limit;
    let records = desk.requests(filter).await?;
    let has_more = records.len() == limit;
    Ok(Json(json!({"object": "list", "data": records, "has_more": has_more})).into_response())
}

/// The log in the columns of a trace, models from the smallest to the largest.
fn export(desk: &Desk) -> Response {
    let mut models: Vec<_> = desk
        .models()
        .iter()
        .map(|facts| (facts.parameters, facts.name.clone()))
        .collect();
    models.sort();
    let models: Vec<String> = models.into_iter().map(|(_, name)| name).collect();
    let store = desk.store().clone();
    let (pieces, body) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE, Pieces(pieces));
        if let Err(error) = store
            .export_csv(&models, &mut out)
            .map_err(io::Error::other)
            .and_then(|()| out.flush())
        {
            tracing::warn!(%error, "an export stopped");
            // The broken body tells the client that this is not the whole log.
            let _ = out.get_ref().0.blocking_send(Err(error));
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"requests.csv\"",
        ),
    ];
    (headers, Body::from_stream(ReceiverStream::new(body))).into_response()
}

/// The writing end of a response body. Blocks while the reader is slow; fails once it has gone.
struct Pieces(Sender<Result<Bytes, io::Error>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
