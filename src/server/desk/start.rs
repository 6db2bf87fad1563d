//! Opening the desk: the router comes back from its log, and what a crash interrupted is withdrawn.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config::Labels;
use crate::energy::{DeviceTotals, EnergyHandle};
use crate::engine::Engine;
use crate::router::{ConfigError, Router, RouterConfig, RouterEvent, RouterSnapshot};
use crate::server::metrics::Metrics;
use crate::store::{Recovered, Store, StoreError};

use super::docket::Docket;
use super::eyes::{Eyes, Gaze};
use super::keeper::keep;
use super::live::{Live, watch};
use super::lives::Lives;
use super::{Desk, Inner, LONG_TEXTS};

/// Everything a desk works with.
pub struct DeskSetup {
    pub engine: Engine,
    pub energy: EnergyHandle,
    /// Its models are the engine's, in the same order.
    pub router: RouterConfig,
    /// Who makes the embeddings that the router's configuration names.
    pub eyes: Eyes,
    /// Whose word counts under each of the router's service levels, in their order.
    pub labels: Vec<Labels>,
    pub store: Store,
    /// What the store found when it was opened.
    pub recovered: Recovered,
    pub metrics: Metrics,
    /// Tokens that a request's prompts may have; `None`: as many as a context holds.
    pub most_prompt: Option<usize>,
}

/// Why the desk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Router(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the {what} in the data folder cannot be read: {why}; it was written by another version, so choose another --data-dir"
    )]
    Unreadable { what: String, why: String },
}

/// The ledger as the last process saved it: what the energy room goes on counting from.
pub fn saved_ledger(recovered: &Recovered) -> Result<Vec<DeviceTotals>, StartError> {
    match &recovered.ledger {
        None => Ok(Vec::new()),
        Some(ledger) => read("energy ledger", ledger.clone()),
    }
}

fn read<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T, StartError> {
    serde_json::from_value(value).map_err(|error| StartError::Unreadable {
        what: what.to_owned(),
        why: error.to_string(),
    })
}

impl Desk {
    /// Brings the router back and starts the background work. Needs a tokio runtime.
    pub async fn start(setup: DeskSetup) -> Result<Self, StartError> {
        let DeskSetup {
            engine,
            energy,
            router,
            eyes,
            labels,
            store,
            recovered,
            metrics,
            most_prompt,
        } = setup;
        let slas = router.slas.iter().map(|sla| sla.name.clone()).collect();
        let router = recover(router, recovered)?;
        let docket = Docket::new(router, store.clone());
        // Looking up what was under way may ask the disk a few thousand questions.
        let reopening = tokio::task::spawn_blocking(move || reopen(docket)).await;
        let (docket, interrupted) = reopening.map_err(|error| StartError::Unreadable {
            what: "log".to_owned(),
            why: error.to_string(),
        })??;
        if interrupted > 0 {
            tracing::info!(
                requests = interrupted,
                "the last process left requests unanswered; they are withdrawn"
            );
        }
        let desk = Arc::new(Inner {
            engine,
            energy,
            store,
            docket,
            metrics,
            slas,
            labels,
            default_labels: Labels::default(),
            gaze: Gaze::new(eyes),
            most_prompt,
            long_texts: Semaphore::new(LONG_TEXTS),
            lives: Lives::default(),
            live: Live::default(),
            draining: AtomicBool::new(false),
        });
        tokio::spawn(keep(Arc::downgrade(&desk)));
        tokio::spawn(watch(Arc::downgrade(&desk)));
        Ok(Self(desk))
    }
}

fn recover(config: RouterConfig, recovered: Recovered) -> Result<Router, StartError> {
    let snapshot: Option<RouterSnapshot> = recovered
        .snapshot
        .map(|(_, snapshot)| read("router's state", snapshot))
        .transpose()?;
    let events: Vec<RouterEvent> = recovered
        .events
        .into_iter()
        .map(|(seq, event)| read(&format!("event {seq}"), event))
        .collect::<Result<_, _>>()?;
    Ok(Router::recover(config, snapshot, events)?)
}

/// Withdraws what a crash interrupted, and lets the log go on from a snapshot, because later events speak of this
/// zoo and earlier ones may speak of another.
fn reopen(docket: Docket) -> Result<(Docket, usize), StoreError> {
    let interrupted = docket.interrupted()?;
    let events: Vec<RouterEvent> = interrupted
        .iter()
        .map(|request| RouterEvent::Withdrawn { request: *request })
        .collect();
    docket.log(&events).wait()?;
    docket.snapshot().wait()?;
    Ok((docket, events.len()))
}
