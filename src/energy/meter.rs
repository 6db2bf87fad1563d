//! What a meter is: a counter that only rises, and how fresh a reading of it is.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::meter_check::MeterCheck;
use super::records::StepRecord;
use super::report::Source;
use crate::units::{Microjoules, Moment, Watts};

/// One reading of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Energy since some origin. Only differences mean anything.
    pub counter: Microjoules,
    /// Power at the reading, where the meter gave it along the way.
    pub power: Option<Watts>,
}

/// Why a reading failed. Serving goes on either way.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeterError {
    /// No reading this time; the counter goes on from where it was.
    #[error("{0}")]
    Failed(String),
    /// The counter may have lost its origin: the next reading is a new beginning.
    #[error("{0}")]
    Restarted(String),
}

/// Why no meter could be opened.
#[derive(Debug, Error)]
pub enum EnergyError {
    /// A meter that was asked for by name is not to be had.
    #[error("[energy] meter = \"{meter}\" cannot measure lane {lane}: {why}; {mend}")]
    Unavailable {
        meter: Source,
        lane: String,
        why: String,
        mend: &'static str,
    },
    /// Declared watts that make no sense.
    #[error(
        "[energy] modelled idle = {idle} W and active = {active} W: both must be finite, not negative, and active \
         not below idle; mend the two figures"
    )]
    BadModelledPower { idle: f64, active: f64 },
    /// The file for the record cannot be written.
    #[error(
        "[energy] record = \"{path}\" cannot be written: {why}; name a file in a folder that you may write to"
    )]
    Record { path: String, why: String },
}

/// A device's energy counter.
pub trait Meter: Send {
    fn source(&self) -> Source;

    /// The meter in words, for `check`, `/v1/energy` and the log.
    fn describe(&self) -> String;

    /// Tells the meter of a finished step. Only a meter without a counter of its own cares.
    fn observe(&mut self, _step: &StepRecord) {}

    /// Reads the counter. `now` is the moment of the call.
    fn read(&mut self, now: Moment) -> Result<Reading, MeterError>;

    /// Whether a read gives a counter that is fresh to about a millisecond. `false` for one that ticks every 20 to
    /// 100 ms, such as NVML's.
    fn reads_are_instant(&self) -> bool;

    /// Whether the counter is made from the observed steps, so that it must be read between steps and is exact there.
    fn follows_steps(&self) -> bool {
        false
    }

    /// The idle power, where it is declared rather than to be fitted.
    fn declared_idle(&self) -> Option<Watts> {
        None
    }

    /// The trailing window, in seconds, over which a reading of power is a mean; the counter then shows energy smeared
    /// over that window. `None` for a meter that shows what was spent up to its reading.
    fn averages_over(&self) -> Option<f64> {
        None
    }

    /// Whether the meter is still under test at its start, so that its readings are to be kept back until the verdict.
    fn is_on_trial(&self) -> bool {
        false
    }

    /// Which quantity the readings are, and how far they were found to be sound.
    fn check(&self) -> MeterCheck {
        MeterCheck::untested(self.source())
    }
}
