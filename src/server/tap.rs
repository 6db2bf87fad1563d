//! Where the lanes' step records go: to the meter's ledger and to the counters.

use crate::energy::{EnergyHandle, StepRecord};
use crate::engine::StepSink;
use crate::units::{DeviceId, Moment};

use super::metrics::Metrics;

/// Hands every step on to the energy room and counts its tokens.
#[derive(Clone)]
pub struct StepTap {
    energy: EnergyHandle,
    metrics: Metrics,
}

impl StepTap {
    pub fn new(energy: EnergyHandle, metrics: Metrics) -> Self {
        Self { energy, metrics }
    }
}

impl StepSink for StepTap {
    fn begin_step(&self, device: DeviceId, at: Moment) {
        self.energy.begin_step(device, at);
    }

    fn record(&self, step: StepRecord) {
        self.metrics.step(&step);
        self.energy.record(step);
    }
}
