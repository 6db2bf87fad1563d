//! NVML as long as it can be believed, and the modelled estimate from then on: what `meter = "auto"` means on a GPU.

use super::meter::{Meter, MeterError, Reading};
use super::meter_check::MeterCheck;
use super::modelled::ModelledMeter;
use super::nvml::NvmlMeter;
use super::records::StepRecord;
use super::report::Source;
use super::settings::ModelledPower;
use crate::units::{Moment, Watts};

/// Becomes another meter at most once, when NVML's test fails.
pub(super) struct NvmlOrModelled {
    nvml: NvmlMeter,
    modelled: ModelledMeter,
    gave_up: Option<String>,
}

impl NvmlOrModelled {
    pub(super) fn new(nvml: NvmlMeter, power: ModelledPower) -> Self {
        Self {
            nvml,
            modelled: ModelledMeter::new(power),
            gave_up: None,
        }
    }

    fn current(&self) -> &dyn Meter {
        if self.gave_up.is_some() {
            &self.modelled
        } else {
            &self.nvml
        }
    }
}

impl Meter for NvmlOrModelled {
    fn source(&self) -> Source {
        self.current().source()
    }

    fn describe(&self) -> String {
        self.current().describe()
    }

    fn observe(&mut self, step: &StepRecord) {
        self.modelled.observe(step);
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        if self.gave_up.is_some() {
            return self.modelled.read(now);
        }
        let reading = self.nvml.read(now);
        if self.nvml.has_failed() {
            let words = format!("{}; {}", self.nvml.check().words, self.modelled.describe());
            self.gave_up = Some(words.clone());
            return Err(MeterError::Restarted(words));
        }
        reading
    }

    fn reads_are_instant(&self) -> bool {
        self.current().reads_are_instant()
    }

    fn follows_steps(&self) -> bool {
        self.current().follows_steps()
    }

    fn declared_idle(&self) -> Option<Watts> {
        self.current().declared_idle()
    }

    fn averages_over(&self) -> Option<f64> {
        self.current().averages_over()
    }

    fn is_on_trial(&self) -> bool {
        self.current().is_on_trial()
    }

    fn check(&self) -> MeterCheck {
        let Some(words) = &self.gave_up else {
            return self.nvml.check();
        };
        MeterCheck {
            quantity: self.modelled.check().quantity,
            words: words.clone(),
            ..self.nvml.check()
        }
    }
}
