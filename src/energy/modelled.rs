//! The meter of a device without one: declared watts times time. It keeps the accounts, the router and the plots
//! working, and it is labelled `modelled` everywhere, because it is an estimate and not a measurement.

use super::meter::{Meter, MeterError, Reading};
use super::records::StepRecord;
use super::report::Source;
use super::settings::ModelledPower;
use crate::units::{Microjoules, Moment, Watts};

pub(super) struct ModelledMeter {
    power: ModelledPower,
    waited: f64,
    worked: f64,
    last_read: Option<Moment>,
    busy_until: Moment,
}

impl ModelledMeter {
    pub(super) fn new(power: ModelledPower) -> Self {
        Self {
            power,
            waited: 0.0,
            worked: 0.0,
            last_read: None,
            busy_until: Moment(0),
        }
    }
}

impl Meter for ModelledMeter {
    fn source(&self) -> Source {
        Source::Modelled
    }

    fn describe(&self) -> String {
        let ModelledPower { idle, active } = self.power;
        format!(
            "modelled, not measured: {} W waiting, {} W while a step runs",
            idle.0, active.0
        )
    }

    fn observe(&mut self, step: &StepRecord) {
        // Steps of one lane follow each other; the router's may overlap them, and a device is busy only once. A record
        // from before a backward step of the clock must not silence all that follow.
        if self
            .last_read
            .is_some_and(|last| self.busy_until.seconds_since(last) > 3_600.0)
        {
            self.busy_until = Moment(0);
        }
        self.worked += step.end.seconds_since(step.start.max(self.busy_until));
        self.busy_until = self.busy_until.max(step.end);
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        if let Some(last) = self.last_read.replace(now) {
            self.waited += now.seconds_since(last);
            if now < last {
                self.busy_until = now;
            }
        }
        let above = (self.power.active.0 - self.power.idle.0).max(0.0);
        let joules = self.power.idle.0 * self.waited + above * self.worked;
        Ok(Reading {
            counter: Microjoules((joules * 1e6) as u64),
            power: None,
        })
    }

    fn reads_are_instant(&self) -> bool {
        true
    }

    fn follows_steps(&self) -> bool {
        true
    }

    fn declared_idle(&self) -> Option<Watts> {
        Some(self.power.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{DeviceId, ModelId};

    #[test]
    fn counts_waiting_and_work_and_overlap_only_once() {
        let mut meter = ModelledMeter::new(ModelledPower {
            idle: Watts(10.0),
            active: Watts(60.0),
        });
        let second = |s: f64| Moment(0).plus_seconds(s);
        meter.read(second(1.0)).unwrap();
        for (start, end) in [(1.0, 2.0), (1.5, 2.5)] {
            let (start, end) = (second(start), second(end));
            meter.observe(&StepRecord {
                device: DeviceId(0),
                model: ModelId(0),
                start,
                end,
                rows: vec![],
            });
        }
        let counter = meter.read(second(3.0)).unwrap().counter.0;
        assert!(counter.abs_diff(20_000_000 + 75_000_000) < 10, "{counter}");
        assert!(meter.describe().contains("not measured"));
    }
}
