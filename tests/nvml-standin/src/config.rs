//! What cards to play. Times are seconds from the beginning: virtual time 0, or the first `nvmlInit` of a process.

use serde::{Deserialize, Serialize};

/// The machine's cards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Of all chance: jitter, noise, failing reads.
    pub seed: u64,
    pub driver: String,
    /// Microseconds of computing that every read costs, as on a real driver.
    pub read_micros: u64,
    pub boards: Vec<BoardConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            driver: "570.86.15".to_owned(),
            read_micros: 0,
            boards: vec![BoardConfig::default()],
        }
    }
}

/// One card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoardConfig {
    /// `GPU-` and the board's number when empty.
    pub uuid: String,
    pub name: String,
    /// The counter changes this often.
    pub tick_ms: f64,
    /// Each change comes up to half of this early or late. Less than `tick_ms`.
    pub jitter_ms: f64,
    /// Counter and power show what was true this long ago.
    pub delay_ms: f64,
    /// Idle watts by time: straight lines between the points, level before and after them.
    pub idle: Vec<(f64, f64)>,
    /// Whether there is an energy counter at all (Volta and later).
    pub has_counter: bool,
    /// What the counter shows at the beginning, in millijoules.
    pub counter_start: u64,
    /// The counter's constant error: 1.03 counts 3 % too much.
    pub counter_scale: f64,
    /// The counter's chance error, tick by tick: the relative deviation of each tick's energy.
    pub counter_noise: f64,
    /// Whether `nvmlDeviceGetPowerUsage` is there, and the trailing window of its mean (1000 on Ampere and later). 0 is
    /// instantaneous.
    pub has_power: bool,
    pub average_ms: f64,
    /// Whether field 186 is there.
    pub has_instant: bool,
    /// The window of what is called instantaneous.
    pub instant_ms: f64,
    /// The share of reads that fail by chance, and how.
    pub failing_share: f64,
    pub failing: Fault,
    pub faults: Vec<FaultWindow>,
    /// When the counter begins anew at 0.
    pub resets: Vec<f64>,
    pub jumps: Vec<Jump>,
    pub mig: bool,
    /// Watts.
    pub power_limit: f64,
}

impl Default for BoardConfig {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            name: "Stand-in H100".to_owned(),
            tick_ms: 100.0,
            jitter_ms: 0.0,
            delay_ms: 0.0,
            idle: vec![(0.0, 75.0)],
            has_counter: true,
            counter_start: 123_456_789,
            counter_scale: 1.0,
            counter_noise: 0.0,
            has_power: true,
            average_ms: 1_000.0,
            has_instant: true,
            instant_ms: 10.0,
            failing_share: 0.0,
            failing: Fault::Unknown,
            faults: Vec::new(),
            resets: Vec::new(),
            jumps: Vec::new(),
            mig: false,
            power_limit: 700.0,
        }
    }
}

/// A time in which every call that needs the card fails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultWindow {
    pub from: f64,
    pub until: f64,
    pub fault: Fault,
}

/// The counter jumps, back when negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    pub at: f64,
    pub millijoules: i64,
}

/// How NVML refuses. `DriverNotLoaded` also fails `nvmlInit`, for all cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    NotSupported,
    NoPermission,
    DriverNotLoaded,
    Timeout,
    GpuLost,
    ResetRequired,
    NotReady,
    Unknown,
}

impl Fault {
    /// `nvmlReturn_t` (nvml.h).
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::NotSupported => 3,
            Self::NoPermission => 4,
            Self::DriverNotLoaded => 9,
            Self::Timeout => 10,
            Self::GpuLost => 15,
            Self::ResetRequired => 16,
            Self::NotReady => 27,
            Self::Unknown => 999,
        }
    }
}
