//! MESS+: which model answers a request, so that a promised share of answers satisfies at the fewest joules.
//!
//! A pure core: no clock, no threads, no files, no generator. [`Router::decide`] reads, [`Router::apply`] is
//! the only thing that changes, and a router is exactly the sum of the events applied to it: the same events
//! give the same bits. The serving path and the replay of traces call these very functions.
//!
//! Life of a request: `decide` → `apply(Decided)` at once, under the same lock, and the event handed to the
//! log → `apply(Finished)` for every answer when its joules are final → `apply(Judged)` whenever a label
//! comes, or `Expired`, or `Withdrawn`. Events go to the log in the order in which they are applied. At start
//! [`Router::recover`], then a snapshot, so that later events are read under the configuration they were
//! written in.
//!
//! From outside in: [`event`] and [`config`] (the words), [`policy`] (who decides), [`learner`] with
//! [`posterior`], [`cluster`], [`topics`] with [`hierarchical`], [`logistic`], `mlp`, [`dense`] over `newton` and
//! `calibration`, [`gate`], [`drift`] (quality), [`cost`] with [`length`], [`dearness`] and [`accuracy`] (joules), [`queue`],
//! [`price`], [`explore`] (parts of policies), [`memory`], [`report`], [`state`] (what is kept),
//! [`draw`], `beta`, `bits`, [`features`] and [`embedding`] (tools).

pub mod accuracy;
pub mod adapt;
mod beta;
mod bits;
mod calibration;
pub mod cluster;
pub mod config;
mod core;
pub mod cost;
pub mod dearness;
pub mod dense;
pub mod draw;
pub mod drift;
pub mod embedding;
pub mod event;
pub mod explore;
pub mod features;
pub mod gate;
pub mod hierarchical;
pub mod learner;
mod length;
pub mod logistic;
pub mod memory;
mod mlp;
mod newton;
mod nnls;
pub mod policy;
pub mod posterior;
pub mod price;
pub mod queue;
pub mod report;
mod sparse;
pub mod state;
pub mod topics;

#[cfg(test)]
mod embedding_laws;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod traffic;

pub use self::core::Router;
pub use accuracy::Errors;
pub use config::{ConfigError, Knobs, ModelInfo, Policy, RouterConfig, SlaConfig, SlaId};
pub use embedding::Embedding;
pub use event::{Ask, Context, Decision, LabelSource, Occupancy, RouterEvent, Stage};
pub use report::{CostReport, ModelCostReport, ModelReport, SlaReport};
pub use state::RouterSnapshot;
