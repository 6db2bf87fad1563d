//! `GET /v1/live`: the dashboard's news as server-sent events (`hello`, `sample`, `request`, `feedback`).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use crate::server::app::AppState;
use crate::server::desk::News;
use crate::server::docs::refusals;
use crate::server::docs::schema::stream::ServerSentEvent;
use crate::server::fault::Fault;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// News
///
/// Server-sent events for a dashboard: `hello` and a `sample` at once, a `sample` each second, a `request` for each one that
/// ends, `feedback` as it comes.
#[utoipa::path(
    get,
    path = "/v1/live",
    tag = "server",
    responses(
        (status = 200, description = "Events until the client goes", body = ServerSentEvent, content_type = "text/event-stream"),
        refusals::Loaded,
    ),
)]
pub(crate) async fn live(
    State(state): State<AppState>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Fault> {
    let desk = state.desk()?.clone();
    desk.check_open()?;
    let (past, news) = desk.watch().await?;
    let future = stream::unfold((desk, news), |(desk, mut news)| async move {
        loop {
            // A drain waits for streams, so this one must end by itself; a sample comes every second.
            if desk.check_open().is_err() {
                return None;
            }
            match news.recv().await {
                Ok(one) => return Some((one, (desk, news))),
                // Who reads too slowly misses some news and goes on with the latest.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let event = |News { kind, data }: News| Ok(Event::default().event(kind).data(&*data));
    let events = stream::iter(past).chain(future).map(event);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
