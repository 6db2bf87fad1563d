//! Accounts of energy.

use utoipa::ToSchema;

use super::status::{EnergySource, MeterQuantity, MeterTest};

#[derive(ToSchema)]
pub(crate) struct Energy {
    devices: Vec<DeviceAccounts>,
}

/// One device's meter and accounts, in joules: `measured_joules` is the sum of the six after it, in every answer.
#[derive(ToSchema)]
pub(crate) struct DeviceAccounts {
    device: String,
    /// In words.
    meter: String,
    source: EnergySource,
    measured_joules: f64,
    request_joules: f64,
    exploration_joules: f64,
    router_joules: f64,
    idle_joules: f64,
    load_joules: f64,
    /// What the meter counted while nobody can say for whom.
    unattributed_joules: f64,
    /// Seconds without a reading that could be placed.
    gap_seconds: f64,
    /// Mean power over about the last second.
    watts: f64,
    idle_watts: f64,
    /// Between two changes of the counter.
    tick_seconds: Option<f64>,
    /// By which the counter is late.
    lag_seconds: f64,
    /// How far the fitted law is off, relative.
    fit_error: Option<f64>,
    /// Steps that the energy thread heard of too late.
    late_steps: u64,
    /// Readings of the meter.
    reads: u64,
    /// The latest troubles, each a sentence.
    alarms: Vec<String>,
    meter_check: MeterCheck,
}

/// What the test of the meter at the start found.
#[derive(ToSchema)]
pub(crate) struct MeterCheck {
    state: MeterTest,
    quantity: MeterQuantity,
    update_period_ms: Option<f64>,
    implied_watts: Option<f64>,
    power_ratio: Option<f64>,
    watts_now: Option<f64>,
    power_limit_watts: Option<f64>,
    board: Option<String>,
    uuid: Option<String>,
    /// The verdict in a sentence.
    words: String,
    notes: Vec<String>,
}
