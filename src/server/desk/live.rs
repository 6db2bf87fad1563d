//! What the dashboard is told: a sample of everything each second while somebody looks, and each request when it ends.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, Sender};

use crate::server::devices::device_object;
use crate::server::wire::to_value;
use crate::store::{Filter, RequestRecord};

use super::record::shown;
use super::{Desk, DeskError, Inner};

const RHYTHM: Duration = Duration::from_secs(1);
/// News that a slow reader may fall behind before it misses some.
const BEHIND: usize = 256;
/// Requests that a newcomer is shown.
const PAST: usize = 40;

/// One piece of news: what it is about, and JSON on one line.
#[derive(Clone, Debug)]
pub struct News {
    pub kind: &'static str,
    pub data: Arc<str>,
}

impl News {
    fn of(kind: &'static str, data: &Value) -> Self {
        Self {
            kind,
            data: data.to_string().into(),
        }
    }
}

/// Where news goes. Nothing is put into words while nobody listens.
pub(super) struct Live(Sender<News>);

impl Default for Live {
    fn default() -> Self {
        Self(Sender::new(BEHIND))
    }
}

impl Live {
    fn tell(&self, kind: &'static str, data: impl FnOnce() -> Value) {
        if self.0.receiver_count() > 0 {
            // The last listener may leave in between; then nobody misses it.
            let _ = self.0.send(News::of(kind, &data()));
        }
    }
}

/// Takes samples for as long as the desk exists and somebody looks.
pub(super) async fn watch(desk: Weak<Inner>) {
    let mut rhythm = tokio::time::interval(RHYTHM);
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rhythm.tick().await;
        let Some(desk) = desk.upgrade() else { return };
        if desk.live.0.receiver_count() > 0 {
            let sample = desk.sample().await;
            desk.live.tell("sample", || sample);
        }
    }
}

impl Desk {
    /// What there is to see, and what will happen from now on.
    pub async fn watch(&self) -> Result<(Vec<News>, Receiver<News>), DeskError> {
        let desk = &self.0;
        // Subscribed first, so that nothing falls between the past and the news.
        let news = desk.live.0.subscribe();
        let newest = Filter {
            limit: PAST,
            ..Filter::default()
        };
        let requests = self.requests(newest).await?;
        let models = self
            .models()
            .iter()
            .map(|facts| json!({"name": facts.name, "parameters": facts.parameters}));
        let hello = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "slas": desk.slas,
            "models": models.collect::<Vec<_>>(),
            "requests": requests,
        });
        let past = vec![
            News::of("hello", &hello),
            News::of("sample", &desk.sample().await),
        ];
        Ok((past, news))
    }
}

impl Inner {
    pub(super) fn tell_request(&self, record: &RequestRecord) {
        self.live.tell("request", || shown(record, self.engine.models()));
    }

    pub(super) fn tell_feedback(&self, request: &str, satisfied: f64) {
        self.live.tell(
            "feedback",
            || json!({"id": request, "feedback": {"satisfied": satisfied, "source": "user"}}),
        );
    }

    /// The state of everything, at one moment as far as that can be.
    async fn sample(&self) -> Value {
        let devices = self.energy.devices().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let lanes = self.engine.models().iter().zip(self.engine.occupancy());
        let models = lanes.map(|(facts, lane)| {
            let (prefill, decode) = self.metrics.tokens(facts.id);
            json!({
                "model": facts.name,
                "running": lane.running,
                "waiting": lane.waiting,
                "prefill_tokens": prefill,
                "decode_tokens": decode,
            })
        });
        json!({
            "t": now.map_or(0.0, |since| since.as_secs_f64()),
            "slas": to_value(&self.docket.report()),
            "devices": devices.iter().map(device_object).collect::<Vec<_>>(),
            "models": models.collect::<Vec<_>>(),
        })
    }
}
