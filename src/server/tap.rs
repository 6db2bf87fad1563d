//! Where the lanes' step records go: to the meter's ledger and to the counters.

use crate::energy::{EnergyHandle, StepRecord};
use crate::engine::StepSink;
use crate::units::{DeviceId, Moment};

use super::loading::Loading;
use super::metrics::Metrics;

/// Hands every step on to the energy room, counts its tokens, and sees models being loaded.
#[derive(Clone)]
pub struct StepTap {
    energy: EnergyHandle,
    metrics: Metrics,
    loading: Loading,
}

impl StepTap {
    pub fn new(energy: EnergyHandle, metrics: Metrics, loading: Loading) -> Self {
        Self {
            energy,
            metrics,
            loading,
        }
    }
}

impl StepSink for StepTap {
    fn begin_step(&self, device: DeviceId, at: Moment) {
        self.energy.begin_step(device, at);
    }

    fn record(&self, step: StepRecord) {
        self.metrics.step(&step);
        self.loading.step(&step);
        self.energy.record(step);
    }
}
