//! What the tests of this room play with: a chance generator and a scripted meter.

use std::future::Future;

use super::meter::{Meter, MeterError, Reading};
use super::records::StepRecord;
use super::report::Source;
use crate::units::{Clock, Microjoules, Moment};

/// A small seeded generator (SplitMix64, Steele et al. 2014).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and deviation 1, near enough: twelve uniforms.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A meter by the real clock: constant watts, and as much again while a recorded step ran.
pub(super) struct FakeMeter {
    watts: f64,
    worked: f64,
    tick: Option<f64>,
    clock: Clock,
}

impl FakeMeter {
    pub(super) fn instant(watts: f64, clock: Clock) -> Self {
        Self {
            watts,
            worked: 0.0,
            tick: None,
            clock,
        }
    }

    pub(super) fn ticking(watts: f64, tick: f64, clock: Clock) -> Self {
        Self {
            watts,
            worked: 0.0,
            tick: Some(tick),
            clock,
        }
    }
}

impl Meter for FakeMeter {
    fn source(&self) -> Source {
        if self.tick.is_some() {
            Source::Nvml
        } else {
            Source::Rapl
        }
    }

    fn describe(&self) -> String {
        "scripted".into()
    }

    fn observe(&mut self, step: &StepRecord) {
        self.worked += step.end.seconds_since(step.start);
    }

    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        let seconds = self.clock.now().0 as f64 * 1e-9 + self.worked;
        let shown = self.tick.map_or(seconds, |tick| (seconds / tick).floor() * tick);
        Ok(Reading {
            counter: Microjoules((shown * self.watts * 1e6) as u64),
            power: None,
        })
    }

    fn reads_are_instant(&self) -> bool {
        self.tick.is_none()
    }
}
