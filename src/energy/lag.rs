//! How late the meter is: energy spent at `t` shows in the counter at `t + lag`. Found by fitting the same ticks under
//! every candidate lag and taking the least residual.

use std::collections::VecDeque;

use super::features::{StepFeatures, WIDTH, Work};
use super::least_squares::Normal;
use crate::units::Moment;

/// Candidate lags in milliseconds. A counter's own delay is tens of milliseconds; a power reading averaged over a
/// second looks, once integrated, some 500 ms late.
const CANDIDATES_MS: [u64; 20] = [
    0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600,
];
/// Ticks looked at by a scan, and between two scans.
const WINDOW: usize = 256;
/// The first scans follow each other more closely, because until the lag is found every tick is placed wrongly.
const EARLY_WINDOW: usize = 64;
const EARLY_SCANS: u32 = 6;
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

/// The recent ticks, in the counter's own time, and the steps near them.
pub(super) struct LagScan {
    ticks: VecDeque<ClockedTick>,
    steps: VecDeque<ClockedStep>,
    fresh: usize,
    scans: u32,
    lag_nanos: u64,
}

impl LagScan {
    pub(super) fn new() -> Self {
        Self {
            ticks: VecDeque::new(),
            steps: VecDeque::new(),
            fresh: 0,
            scans: 0,
            lag_nanos: 0,
        }
    }

    /// The lag in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        self.lag_nanos
    }

    pub(super) fn observe_step(&mut self, start: Moment, end: Moment, features: StepFeatures) {
        self.steps.push_back(ClockedStep { start, end, features });
        let horizon = self
            .ticks
            .front()
            .map_or(end.0.saturating_sub(30_000_000_000), |t| t.start.0);
        let oldest = horizon.saturating_sub(1_000_000 * CANDIDATES_MS[CANDIDATES_MS.len() - 1]);
        while self.steps.front().is_some_and(|s| s.end.0 < oldest) || self.steps.len() > 64 * WINDOW {
            self.steps.pop_front();
        }
    }

    /// Forgets everything but the lag: after a gap old ticks and new ones do not belong together.
    pub(super) fn clear(&mut self) {
        self.ticks.clear();
        self.steps.clear();
        self.fresh = 0;
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
                EARLY_WINDOW
            } else {
                WINDOW
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
        let residuals = CANDIDATES_MS.map(|ms| self.residual(ms * 1_000_000, &works));
        let present = CANDIDATES_MS
            .iter()
            .position(|ms| ms * 1_000_000 == self.lag_nanos)
            .unwrap_or(0);
        let best = (0..residuals.len())
            .min_by(|a, b| residuals[*a].total_cmp(&residuals[*b]))
            .unwrap_or(present);
        if residuals[best] > MUST_IMPROVE * residuals[present] {
            return false;
        }
        self.lag_nanos = CANDIDATES_MS[best] * 1_000_000;
        best != present
    }

    fn residual(&self, lag: u64, works: &[Work]) -> f64 {
        let n = 1 + works.len() * WIDTH;
        let mut normal = Normal::new(n);
        let mut first = 0;
        for tick in &self.ticks {
            let (from, to) = (tick.start.0.saturating_sub(lag), tick.end.0.saturating_sub(lag));
            let mut features = vec![0.0; n];
            features[0] = (to - from) as f64 * 1e-9;
            while first < self.steps.len() && self.steps[first].end.0 <= from {
                first += 1;
            }
            for step in self.steps.range(first..).take_while(|s| s.start.0 < to) {
                let overlap = step.end.0.min(to).saturating_sub(step.start.0.max(from));
                let share = overlap as f64 / (step.end.0 - step.start.0).max(1) as f64;
                let place = works.iter().position(|w| *w == step.features.work).unwrap_or(0);
                let own = &mut features[1 + place * WIDTH..1 + (place + 1) * WIDTH];
                own.iter_mut()
                    .zip(&step.features.values)
                    .for_each(|(f, v)| *f += share * v);
            }
            normal.add(&features, tick.joules, 1.0);
        }
        normal.residual(&normal.solve(&vec![0.0; n], 1e-6, None))
    }
}
