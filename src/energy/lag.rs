//! How late the meter is: energy spent at `t` shows in the counter at `t + lag`. Found by fitting the same ticks under
//! every candidate lag and taking the least residual.

use std::collections::VecDeque;

use super::features::{StepFeatures, WIDTH, Work};
use super::least_squares::Normal;
use super::smear::Smear;
use crate::units::Moment;

/// Candidate lags in milliseconds. A counter's own delay is tens of milliseconds; a power reading averaged over a
/// second looks, once integrated, some 500 ms late.
const CANDIDATES_MS: [u64; 20] = [
    0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600,
];
/// The lag is found to this, a small part of a tick.
const FINEST_NANOS: u64 = 2_000_000;
const LONGEST_LAG_NANOS: u64 = 1_000_000 * CANDIDATES_MS[CANDIDATES_MS.len() - 1];
/// Ticks looked at by a scan.
const WINDOW: usize = 512;
/// Steps remembered for them, short ones counted together.
const MOST_STEPS: usize = 64 * WINDOW;
/// Steps of one model are taken together up to this span, finer than the lag can be found.
const TOGETHER_NANOS: u64 = 1_000_000;
/// Ticks between two scans.
const PAUSE: usize = 256;
/// The first scans follow each other more closely, because until the lag is found every tick is placed wrongly.
const EARLY_PAUSE: usize = 64;
const EARLY_SCANS: u32 = 6;
/// The second scan confirms or mends what the first made of few ticks.
const ENOUGH_SCANS: u32 = 2;
/// Another lag must leave this share of the present one's residual, or less, to replace it.
const MUST_IMPROVE: f64 = 0.85;

struct ClockedTick {
    start: Moment,
    end: Moment,
    joules: f64,
}

struct ClockedStep {
    start: Moment,
    end: Moment,
    features: StepFeatures,
}

impl ClockedStep {
    /// Whether a step may be counted with this one.
    fn takes_in(&self, start: Moment, end: Moment, features: &StepFeatures) -> bool {
        self.features.work == features.work
            && start >= self.end
            && end.0.saturating_sub(self.start.0) <= TOGETHER_NANOS
    }
}

/// A tick, and what of which steps it shows.
pub(super) struct PlacedTick {
    pub(super) seconds: f64,
    pub(super) joules: f64,
    pub(super) parts: Vec<StepFeatures>,
}

/// The recent ticks, in the counter's own time, and the steps near them.
pub(super) struct LagScan {
    smear: Smear,
    ticks: VecDeque<ClockedTick>,
    steps: VecDeque<ClockedStep>,
    fresh: usize,
    scans: u32,
    /// The latest scan found what the one before it had found.
    confirmed: bool,
    lag_nanos: u64,
}

impl LagScan {
    pub(super) fn new(smear: Smear) -> Self {
        Self {
            smear,
            ticks: VecDeque::new(),
            steps: VecDeque::new(),
            fresh: 0,
            scans: 0,
            confirmed: false,
            lag_nanos: 0,
        }
    }

    /// Whether enough ticks were looked at, more than once and with one result, for the lag to be believed.
    pub(super) fn is_found(&self) -> bool {
        self.scans >= ENOUGH_SCANS && self.confirmed
    }

    /// The lag in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        self.lag_nanos
    }

    pub(super) fn observe_step(&mut self, start: Moment, end: Moment, features: StepFeatures) {
        match self.steps.back_mut() {
            Some(last) if last.takes_in(start, end, &features) => {
                last.end = end;
                last.features = last.features.and(&features);
            }
            _ => self.steps.push_back(ClockedStep { start, end, features }),
        }
        let horizon = self
            .ticks
            .front()
            .map_or(end.0.saturating_sub(30_000_000_000), |t| t.start.0);
        let oldest = horizon.saturating_sub(LONGEST_LAG_NANOS);
        while self
            .steps
            .front()
            .is_some_and(|s| self.smear.shown_until(s.end).0 < oldest)
        {
            self.steps.pop_front();
        }
        while self.steps.len() > MOST_STEPS
            && let Some(forgotten) = self.steps.pop_front()
        {
            // A tick whose steps are not all known would be taken for an idle one.
            let shown = self.smear.shown_until(forgotten.end).0 + LONGEST_LAG_NANOS;
            while self.ticks.front().is_some_and(|tick| tick.start.0 < shown) {
                self.ticks.pop_front();
            }
        }
    }

    /// After a gap old ticks and new ones do not belong together. The steps may be those of ticks still to come.
    pub(super) fn forget_ticks(&mut self) {
        self.ticks.clear();
        self.fresh = 0;
    }

    /// Forgets everything but the lag, for time begins anew.
    pub(super) fn clear(&mut self) {
        self.forget_ticks();
        self.steps.clear();
    }

    /// Takes in a tick and scans when it is time. True when the lag changed.
    pub(super) fn observe_tick(&mut self, start: Moment, end: Moment, joules: f64) -> bool {
        self.ticks.push_back(ClockedTick { start, end, joules });
        if self.ticks.len() > WINDOW {
            self.ticks.pop_front();
        }
        self.fresh += 1;
        if self.fresh
            < if self.scans < EARLY_SCANS {
                EARLY_PAUSE
            } else {
                PAUSE
            }
        {
            return false;
        }
        self.fresh = 0;
        self.scan()
    }

    fn scan(&mut self) -> bool {
        let mut works: Vec<Work> = self.steps.iter().map(|s| s.features.work).collect();
        works.sort_unstable();
        works.dedup();
        let unknowns = 1 + works.len() * WIDTH;
        let busy = self
            .steps
            .iter()
            .map(|s| s.end.seconds_since(s.start))
            .sum::<f64>();
        if works.is_empty() || self.ticks.len() < 2 * unknowns || busy < 0.5 {
            return false;
        }
        self.scans = self.scans.saturating_add(1);
        let present = self.residual(self.lag_nanos, &works);
        let (best, residual) = self.best(&works);
        self.confirmed = best == self.lag_nanos || residual > MUST_IMPROVE * present;
        if !self.confirmed {
            self.lag_nanos = best;
        }
        !self.confirmed
    }

    /// The lag of the least residual, and that residual: the best candidate, then ever closer around it.
    fn best(&self, works: &[Work]) -> (u64, f64) {
        let at = |nanos: u64| (nanos, self.residual(nanos, works));
        let candidates = CANDIDATES_MS.map(|ms| at(ms * 1_000_000));
        let place = (0..candidates.len())
            .min_by(|a, b| candidates[*a].1.total_cmp(&candidates[*b].1))
            .unwrap_or(0);
        let mut best = candidates[place];
        let mut low = candidates[place.saturating_sub(1)].0;
        let mut high = candidates[(place + 1).min(candidates.len() - 1)].0;
        while high - low > FINEST_NANOS {
            for nanos in [low.midpoint(best.0), best.0.midpoint(high)] {
                let here = at(nanos);
                if here.1 < best.1 {
                    best = here;
                }
            }
            let quarter = (high - low) / 4;
            (low, high) = (
                best.0.saturating_sub(quarter).max(low),
                (best.0 + quarter).min(high),
            );
        }
        best
    }

    /// The ticks that are remembered, oldest first, with the parts of steps that each shows by the present lag.
    pub(super) fn placed_ticks(&self) -> impl Iterator<Item = PlacedTick> {
        let mut first = 0;
        self.ticks.iter().map(move |tick| PlacedTick {
            seconds: tick.end.seconds_since(tick.start),
            joules: tick.joules,
            parts: self.parts(tick, self.lag_nanos, &mut first).collect(),
        })
    }

    /// The parts of steps that a tick shows. `first` is the first step that may matter, and moves on with the ticks.
    fn parts<'a>(
        &'a self,
        tick: &ClockedTick,
        lag: u64,
        first: &mut usize,
    ) -> impl Iterator<Item = StepFeatures> + use<'a> {
        let (from, to) = (
            Moment(tick.start.0.saturating_sub(lag)),
            Moment(tick.end.0.saturating_sub(lag)),
        );
        let smear = self.smear;
        while self
            .steps
            .get(*first)
            .is_some_and(|s| smear.shown_until(s.end) <= from)
        {
            *first += 1;
        }
        let near = self.steps.range(*first..).take_while(move |s| s.start < to);
        let parts = near.map(move |s| (s, smear.share((s.start, s.end), (from, to))));
        parts
            .filter(|(_, share)| *share > 0.0)
            .map(|(s, share)| s.features.part(share))
    }

    fn residual(&self, lag: u64, works: &[Work]) -> f64 {
        let n = 1 + works.len() * WIDTH;
        let mut normal = Normal::new(n);
        let mut first = 0;
        for tick in &self.ticks {
            let mut features = vec![0.0; n];
            features[0] = tick.end.seconds_since(tick.start);
            for part in self.parts(tick, lag, &mut first) {
                let place = works.iter().position(|w| *w == part.work).unwrap_or(0);
                let own = &mut features[1 + place * WIDTH..1 + (place + 1) * WIDTH];
                own.iter_mut().zip(&part.values).for_each(|(f, v)| *f += v);
            }
            normal.add(&features, tick.joules, 1.0);
        }
        normal.residual(&normal.solve(&vec![0.0; n], 1e-6, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ModelId;

    const MS: u64 = 1_000_000;
    const IDLE: f64 = 60.0;
    const BUSY: f64 = 1_000.0;

    /// Joules spent until then by a lane that works in the first half of every second.
    fn spent(nanos: u64) -> f64 {
        let (whole, rest) = (nanos / (1_000 * MS), nanos % (1_000 * MS));
        let worked = whole * 500 * MS + rest.min(500 * MS);
        IDLE * nanos as f64 * 1e-9 + BUSY * worked as f64 * 1e-9
    }

    /// A small model takes more steps a second than could be remembered one by one.
    #[test]
    fn the_lag_is_found_however_many_steps_a_tick_has() {
        for (models, nanos) in [(1, 20_000), (1, 300_000), (2, 150_000)] {
            let (tick, lag) = (50 * MS, 300 * MS);
            let mut scan = LagScan::new(Smear::new(None));
            let mut step = 0;
            for number in 1..400 {
                let now = number * tick;
                while (step + 1) * nanos <= now {
                    let (start, end) = (step * nanos, (step + 1) * nanos);
                    step += 1;
                    if start % (1_000 * MS) >= 500 * MS {
                        continue;
                    }
                    let features = StepFeatures {
                        work: Work::Model(ModelId((step % models) as u16)),
                        values: [0.0, 1.0, 1.0, 40.0],
                        seconds: (end - start) as f64 * 1e-9,
                    };
                    scan.observe_step(Moment(start), Moment(end), features);
                }
                let joules = spent(now.saturating_sub(lag)) - spent((now - tick).saturating_sub(lag));
                scan.observe_tick(Moment(now - tick), Moment(now), joules);
            }
            assert!(scan.is_found());
            assert!(
                scan.nanos().abs_diff(lag) <= 4 * MS,
                "{models} models: {} ns",
                scan.nanos()
            );
            for placed in scan.placed_ticks() {
                let busy: f64 = placed.parts.iter().map(|part| part.seconds).sum();
                let told = IDLE * placed.seconds + BUSY * busy;
                assert!(
                    (told - placed.joules).abs() < 0.1 * BUSY * placed.seconds,
                    "{told} J of {}",
                    placed.joules
                );
            }
        }
    }
}
