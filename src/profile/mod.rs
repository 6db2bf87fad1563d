//! Profiling runs: joules, watts and speed of every model at every batch size, prompt and answer length, each measured
//! until its mean is known well enough.
//!
//! `bench` makes one measurement through the very lane and meter that serve, `course` repeats and orders them,
//! `partial` keeps what is done, `record` is the result, `plots` and `page` show it.

mod baseline;
mod bench;
mod course;
mod grid;
mod page;
mod partial;
mod plots;
mod power;
mod record;
mod steps;

pub use baseline::{Baseline, BaselineError, Change};
pub use bench::{Bench, BenchError};
pub use course::{Course, CourseError, Progress};
pub use grid::{Cell, Grid, Room, Skipped};
pub use page::page;
pub use partial::{Fingerprint, Partial, PartialError, remove};
pub use plots::{Plot, draw};
pub use power::PowerTrace;
pub use record::{Profile, Row};
pub use steps::StepWatch;
