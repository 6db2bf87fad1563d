//! The desk: where a valid ask becomes an answer, with everything that must happen on the way. Route or take the
//! named model, run the jobs, settle the joules, log, judge, learn.
//!
//! One [`Desk`] owns the router and the order of its log (`docket`). Each request lives in a task of its own
//! (`life`), so that it is booked and recorded whatever becomes of its client.

mod dispatch;
mod docket;
mod ear;
mod error;
mod eyes;
mod feedback;
mod judge;
mod keeper;
mod labels;
mod life;
mod live;
mod lives;
mod piece;
mod plan;
mod pump;
mod record;
mod responses;
mod start;
mod story;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config::Labels;
use crate::energy::{DeviceEnergy, EnergyHandle};
use crate::engine::{Engine, ModelFacts};
use crate::router::{CostReport, RouterEvent, SlaId, SlaReport};
use crate::server::metrics::Metrics;
use crate::server::wire::Ask;
use crate::store::{Filter, RequestRecord, Store, StoreError};
use crate::units::RequestId;

pub use error::DeskError;
pub use eyes::Eyes;
pub use live::News;
pub use piece::{Answer, Piece, Summary};
pub use responses::Kept;
pub use start::{DeskSetup, StartError, saved_ledger};

use docket::Docket;
use eyes::Gaze;
use live::Live;
use lives::Lives;
use plan::Plan;

/// Text longer than this is tokenised away from the threads that serve everyone.
const LONG_TEXT: usize = 32 << 10;
/// So many long texts are tokenised at once: more would only take the lanes' processors.
const LONG_TEXTS: usize = 2;
/// How long a close waits for joules to settle, and then for lanes to let go.
const CLOSE_PATIENCE: Duration = Duration::from_secs(35);
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The handle. Copies share everything.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    engine: Engine,
    energy: EnergyHandle,
    store: Store,
    docket: Docket,
    metrics: Metrics,
    /// Names of the service levels, in the order of their ids.
    slas: Vec<String>,
    /// Whose word counts under each of them, in the same order.
    labels: Vec<Labels>,
    /// Whose word counts where no promise covers a request.
    default_labels: Labels,
    gaze: Gaze,
    most_prompt: Option<usize>,
    long_texts: Semaphore,
    lives: Lives,
    live: Live,
    draining: AtomicBool,
}

impl Desk {
    /// Answers a request. What comes back is under way; dropping it cancels the request.
    pub async fn answer(&self, request: RequestId, ask: Ask) -> Result<Answer, DeskError> {
        self.check_open()?;
        self.0.check_room(&ask)?;
        self.0.answer(request, ask).await
    }

    /// What would be answered by whom; generates and records nothing.
    pub async fn route(&self, request: RequestId, ask: Ask) -> Result<Value, DeskError> {
        let plan = self.0.plan(request, ask).await?;
        let embedding = self.0.look(&plan).await;
        self.0.preview(&plan, embedding)
    }

    /// Tokens of the prompts of an ask: of the model that needs most where several may answer.
    pub async fn prompt_tokens(&self, request: RequestId, ask: Ask) -> Result<u32, DeskError> {
        let plan = self.0.plan(request, ask).await?;
        Ok(plan.prompt_tokens().into_iter().max().unwrap_or(0))
    }

    /// Takes a user's verdict; returns once it is durable.
    pub async fn feedback(&self, request: &str, satisfied: f64) -> Result<RequestId, DeskError> {
        self.0.feedback(request, satisfied).await
    }

    /// The record of a request.
    pub async fn request(&self, request: &str) -> Result<Value, DeskError> {
        let record = self.0.known(request).await?;
        Ok(record::shown(&record, self.models()))
    }

    /// Records, newest first.
    pub async fn requests(&self, filter: Filter) -> Result<Vec<Value>, DeskError> {
        let found = self.0.read(move |store| store.requests(&filter)).await?;
        Ok(found
            .iter()
            .map(|record| record::shown(record, self.models()))
            .collect())
    }

    /// The log itself, for exports. Its reading blocks.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    pub fn models(&self) -> &[ModelFacts] {
        self.0.engine.models()
    }

    /// Names of the service levels.
    pub fn slas(&self) -> &[String] {
        &self.0.slas
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub fn router_report(&self) -> Vec<SlaReport> {
        self.0.docket.report()
    }

    /// What the router sees of texts.
    pub fn features(&self) -> Value {
        self.0.gaze.report()
    }

    /// What the router expects answers to cost, and how far off it was.
    pub fn cost_report(&self) -> CostReport {
        self.0.docket.cost_report()
    }

    /// Forgives the past of a service level; returns its report once that is durable.
    pub async fn reset(&self, sla: &str) -> Result<SlaReport, DeskError> {
        let known = self.0.slas.iter().position(|name| name == sla);
        let place = known.ok_or_else(|| DeskError::UnknownSla {
            name: sla.to_owned(),
            param: "sla",
            known: self.0.slas.clone(),
        })?;
        let event = RouterEvent::Reset {
            sla: SlaId(place as u16),
        };
        self.0.docket.log(&[event]).await?;
        Ok(self.0.docket.report().swap_remove(place))
    }

    pub async fn devices(&self) -> Vec<DeviceEnergy> {
        self.0.energy.devices().await
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.0.lives.count()
    }

    /// Whether new requests are taken.
    pub fn check_open(&self) -> Result<(), DeskError> {
        if self.0.draining.load(Ordering::Relaxed) {
            Err(DeskError::Draining)
        } else {
            Ok(())
        }
    }

    /// Takes no more requests; those under way go on.
    pub fn stop_taking(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Lets what is under way come to its end, stops the lanes, and writes down everything that is in memory.
    pub async fn close(&self) {
        self.stop_taking();
        let desk = &self.0;
        if tokio::time::timeout(CLOSE_PATIENCE, desk.lives.over())
            .await
            .is_err()
        {
            tracing::warn!("some requests are still under way; their lanes are stopped");
        }
        desk.engine.shutdown();
        let _ = tokio::time::timeout(STOP_PATIENCE, desk.lives.over()).await;
        desk.save(true).await;
        let store = desk.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the log could not be closed");
        }
    }
}

impl Inner {
    async fn plan(self: &Arc<Self>, request: RequestId, ask: Ask) -> Result<Plan, DeskError> {
        let plan = if ask.length() <= LONG_TEXT {
            Plan::draw(&self.engine, &self.slas, request, ask)?
        } else {
            // Nobody closes it, so a turn always comes.
            let _turn = self.long_texts.acquire().await.map_err(|_| DeskError::Lost)?;
            let desk = Arc::clone(self);
            let planned =
                tokio::task::spawn_blocking(move || Plan::draw(&desk.engine, &desk.slas, request, ask));
            planned.await.map_err(|_| DeskError::Lost)??
        };
        match (self.most_prompt, plan.shortest_prompt()) {
            (Some(most), tokens) if tokens > most => Err(DeskError::PromptTooLong { tokens, most }),
            _ => Ok(plan),
        }
    }

    /// Reads the log away from the threads that serve everyone.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, DeskError> {
        let store = self.store.clone();
        let answer = tokio::task::spawn_blocking(move || question(&store)).await;
        Ok(answer.map_err(|_| DeskError::Lost)??)
    }

    /// The record of a request by the id that a client gave.
    async fn known(&self, request: &str) -> Result<RequestRecord, DeskError> {
        let unknown = || DeskError::UnknownRequest {
            id: request.to_owned(),
        };
        let id = feedback::request_id(request).ok_or_else(unknown)?;
        self.read(move |store| store.request(id))
            .await?
            .ok_or_else(unknown)
    }
}
