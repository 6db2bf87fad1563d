//! Stands in for NVIDIA's `libnvidia-ml.so` in tests: cards whose true energy is known, behind NVML's own symbols.
//!
//! Two ways to drive it. In virtual time a test makes a [`Card`], which loads a copy of the library of its own, tells it
//! the time and what was spent, and hands [`Card::path`] to the code under test as its NVML library. In real time a
//! server process loads the library and the environment variable [`SCRIPT_VARIABLE`] names a [`Script`]: the cards then
//! run on CLOCK_MONOTONIC, follow the tape of steps that the server writes, and take commands from a file.
//!
//! What is true and what is shown differ as on real cards: the counter is in whole millijoules, changes only every tick
//! and late, power is a mean over a window, reads fail, counters begin anew.

mod board;
mod card;
mod chance;
mod command;
mod config;
mod control;
mod draw;
mod nvml;
mod script;
mod state;

pub use card::{Card, library};
pub use config::{BoardConfig, Config, Fault, FaultWindow, Jump};
pub use script::{SCRIPT_VARIABLE, Script};
