//! What this room tells others: a request's joules, a device's accounts, and how each figure came about.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::alarms::AlarmKind;
use super::meter_check::MeterCheck;
use crate::units::{DeviceId, Joules, Microjoules, Moment, Watts};

/// Where a device's counter comes from. Ordered from the surest to the least sure, so that the `max` of two sources
/// is the honest label of their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The GPU's own counter (`nvmlDeviceGetTotalEnergyConsumption`), or its power integrated.
    Nvml,
    /// The CPU's counters by Linux powercap: packages and DRAM.
    Rapl,
    /// No meter: declared watts times time. An estimate, never a measurement.
    Modelled,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvml => "nvml",
            Self::Rapl => "rapl",
            Self::Modelled => "modelled",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The energy of one request. Joules are shares of what the meter counted, in steps of a microjoule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestEnergy {
    /// Computing the prompt of the answer that the client gets.
    pub prefill: Joules,
    /// Generating that answer.
    pub decode: Joules,
    /// Other models' answers to the same request, made only to learn from them. Not the client's bill.
    pub exploration: Joules,
    /// How the joules came about. A request that fell into a gap of a real meter carries an estimate for the gap and
    /// is therefore `modelled`, whatever meter the device has.
    pub source: Source,
    /// Whether every step of the request is settled against the meter. Until then the figure is partly a prediction.
    #[serde(rename = "final")]
    pub is_final: bool,
}

impl RequestEnergy {
    /// The client's own answer: prefill and decode. Exploration stays apart.
    pub fn total(&self) -> Joules {
        self.prefill + self.decode
    }
}

/// One device's meter and accounts. `measured` equals the sum of the six accounts below it, always and exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEnergy {
    pub device: DeviceId,
    pub name: String,
    /// The meter in words, for people.
    pub meter: String,
    pub source: Source,
    /// What the meter counted, over all processes that kept these totals.
    pub measured: Microjoules,
    /// The moment up to which the meter's readings are in the accounts.
    pub as_of: Moment,
    pub request: Microjoules,
    pub exploration: Microjoules,
    pub router: Microjoules,
    pub idle: Microjoules,
    pub load: Microjoules,
    /// Counted by the meter while nobody can say for whom; stays near zero on a healthy meter.
    pub unattributed: Microjoules,
    /// Seconds for which the meter gave no reading that could be placed.
    pub gap_seconds: f64,
    /// Mean power over about the last second of settled readings.
    pub watts: Watts,
    /// Idle power as fitted; for `modelled` as declared.
    pub idle_watts: Watts,
    /// Seconds between two changes of the counter, once known; `None` for a meter whose reads are instant.
    pub tick_seconds: Option<f64>,
    /// How much later the counter shows energy than it was spent, as found by the lag scan.
    pub lag_seconds: f64,
    /// Whether the scan has seen enough of idle and busy times to be believed.
    pub lag_is_found: bool,
    /// Mean relative error with which a tick's energy was predicted before it was read. `None` until there is one.
    pub fit_error: Option<f64>,
    /// Steps that were told only after their time was settled and thus got nothing (see `EnergyHandle::begin_step`).
    pub late_steps: u64,
    /// Readings that were tried.
    pub reads: u64,
    /// Readings that failed.
    pub failed_reads: u64,
    /// Which quantity the meter's readings are, and what its test found.
    pub check: MeterCheck,
    /// The latest troubles of the meter, oldest first, each a sentence.
    pub alarms: Vec<String>,
    /// How often each kind of trouble was met since the process began.
    pub alarm_counts: BTreeMap<AlarmKind, u64>,
}

impl DeviceEnergy {
    /// The sum of the accounts; equal to `measured`.
    pub fn accounted(&self) -> Microjoules {
        self.request + self.exploration + self.router + self.idle + self.load + self.unattributed
    }
}

/// A device's totals as plain data, to be kept over restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceTotals {
    pub name: String,
    pub source: Source,
    pub measured: Microjoules,
    pub request: Microjoules,
    pub exploration: Microjoules,
    pub router: Microjoules,
    pub idle: Microjoules,
    pub load: Microjoules,
    pub unattributed: Microjoules,
    pub gap_seconds: f64,
}
