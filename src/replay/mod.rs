//! Recorded traces replayed: the router that serves against policies it should beat and references it cannot.
//!
//! [`read`] makes a [`Trace`] of files, [`replay`] plays it under a [`Plan`], [`Results`] are written as a table, JSON,
//! CSV and plots. Nothing here depends on the clock or on how threads take turns: the same trace and plan give the
//! same bytes.
//!
//! From outside in: [`plan`] (what is played), [`trace`] with [`mod@read`] (what is recorded), [`course`] (in which
//! order), [`contender`] (who plays), [`play`] (through the router), [`clairvoyant`] with [`mixture`] and [`offline`] (references that
//! know), [`cascade`] (one that asks twice), [`score`] and [`summary`] (what it came to), [`results`] and [`plots`] (how it is written down).

pub mod cascade;
pub mod clairvoyant;
pub mod contender;
pub mod course;
pub mod mixture;
pub mod offline;
pub mod plan;
pub mod play;
pub mod plots;
pub mod read;
pub mod results;
pub mod score;
pub mod summary;
pub mod trace;

pub use contender::Contender;
pub use course::{Shape, Swap};
pub use plan::{Alphas, Plan, replay};
pub use play::Traffic;
pub use read::{Reading, TraceError, read};
pub use results::Results;
pub use trace::Trace;

#[cfg(test)]
mod tests;
