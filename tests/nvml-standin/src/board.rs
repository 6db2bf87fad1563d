//! One card: from what it truly drew to what it shows.

use crate::chance;
use crate::config::{BoardConfig, Fault};
use crate::draw::Draw;

/// The counter as of its last evaluated tick.
struct Shown {
    tick: u64,
    at: u64,
    /// True energy at that tick, as far as it was known then.
    energy: f64,
    /// Microjoules shown.
    counter: f64,
}

pub(crate) struct Board {
    pub(crate) config: BoardConfig,
    pub(crate) draw: Draw,
    seed: u64,
    shown: Shown,
    reads: u64,
    imposed: Option<Fault>,
}

impl Board {
    pub(crate) fn new(config: BoardConfig, seed: u64) -> Self {
        Self {
            draw: Draw::new(&config.idle),
            seed,
            shown: Shown {
                tick: 0,
                at: 0,
                energy: 0.0,
                counter: config.counter_start as f64 * 1e3,
            },
            reads: 0,
            imposed: None,
            config,
        }
    }

    /// Every call from now on fails so, until `None`.
    pub(crate) fn impose(&mut self, fault: Option<Fault>) {
        self.imposed = fault;
    }

    /// Why the card cannot be had at `now`, if so.
    pub(crate) fn fault(&self, now: u64) -> Option<Fault> {
        let seconds = now as f64 * 1e-9;
        let scripted = self
            .config
            .faults
            .iter()
            .find(|w| (w.from..w.until).contains(&seconds));
        self.imposed.or(scripted.map(|w| w.fault))
    }

    /// A read of energy or power begins; it may fail by chance.
    pub(crate) fn read(&mut self, now: u64) -> Result<(), Fault> {
        self.reads += 1;
        if let Some(fault) = self.fault(now) {
            return Err(fault);
        }
        if chance::unit(self.seed ^ 0x5eed, self.reads) < self.config.failing_share {
            return Err(self.config.failing);
        }
        Ok(())
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// The counter at `now` in whole millijoules. What it shows of a tick is fixed when the tick is first seen: energy
    /// that becomes known later shows in a later tick.
    pub(crate) fn counter(&mut self, now: u64) -> u64 {
        let now = now.saturating_sub(nanos(self.config.delay_ms));
        let period = nanos(self.config.tick_ms).max(1);
        let mut tick = now / period + 1;
        while tick > 0 && self.tick_time(tick) > now {
            tick -= 1;
        }
        if tick > self.shown.tick {
            if self.config.counter_noise > 0.0 {
                for tick in self.shown.tick + 1..=tick {
                    self.advance(tick);
                }
            } else {
                self.advance(tick);
            }
        }
        (self.shown.counter * 1e-3) as u64
    }

    /// The counter begins anew at 0, as when the driver is loaded again.
    pub(crate) fn reset(&mut self, now: u64) {
        self.counter(now);
        self.shown.counter = 0.0;
    }

    pub(crate) fn jump(&mut self, now: u64, millijoules: i64) {
        self.counter(now);
        self.shown.counter = (self.shown.counter + millijoules as f64 * 1e3).max(0.0);
    }

    fn tick_time(&self, tick: u64) -> u64 {
        let jitter = self.config.jitter_ms * (chance::unit(self.seed, tick) - 0.5);
        let at = tick as f64 * self.config.tick_ms + if tick == 0 { 0.0 } else { jitter };
        nanos(at)
    }

    fn advance(&mut self, tick: u64) {
        let (from, at) = (self.shown.at, self.tick_time(tick));
        let energy = self.draw.until(at);
        let within = |seconds: f64| (from..at).contains(&nanos(seconds * 1e3));
        let noise = self.config.counter_noise * chance::normal(self.seed ^ 0x0153, tick);
        let factor = self.config.counter_scale * (1.0 + noise).max(0.0);
        let reset = self.config.resets.iter().rev().find(|r| within(**r));
        let mut counter = match reset {
            Some(reset) => (energy - self.draw.until(nanos(*reset * 1e3))).max(0.0) * factor,
            None => self.shown.counter + (energy - self.shown.energy).max(0.0) * factor,
        };
        for jump in self.config.jumps.iter().filter(|j| within(j.at)) {
            counter = (counter + jump.millijoules as f64 * 1e3).max(0.0);
        }
        self.shown = Shown {
            tick,
            at,
            energy,
            counter,
        };
    }

    /// Milliwatts: a mean over the window before.
    pub(crate) fn power(&self, now: u64, window_ms: f64) -> u32 {
        let at = now.saturating_sub(nanos(self.config.delay_ms));
        (self.draw.watts(at, nanos(window_ms)) * 1e3).round() as u32
    }
}

fn nanos(milliseconds: f64) -> u64 {
    (milliseconds * 1e6) as u64
}
