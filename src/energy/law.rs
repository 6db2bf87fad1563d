//! The law that predicts a step's energy, learnt from ticks: per model
//! `E(step) = a·prefill tokens + b + c·decoded tokens + d·context tokens`, and idle watts times time.
//!
//! The fit is non-negative least squares over the recent ticks with exponential forgetting. Each solution is held
//! softly to the one before it, and the first one to the steps' durations times the mean busy power, so that what the
//! data cannot tell apart (two models that always run together) stays at the sensible guess instead of wandering.

use super::features::{StepFeatures, WIDTH, Work, dot};
use super::least_squares::Normal;

/// Seconds of busy time after which evidence on steps has lost 63 % of its weight.
const BUSY_MEMORY: f64 = 600.0;
/// Seconds after which evidence on idle watts has lost 63 % of its weight: idle drifts with temperature and clocks.
const QUIET_MEMORY: f64 = 60.0;
/// Seconds of quiet time, decayed, from which the quiet alone tells the idle watts.
const QUIET_ENOUGH: f64 = 1.0;
/// What they never fall below from then on: on a lane that hardly ever rests, the idle watts seen last are better than
/// those that busy ticks suggest.
const QUIET_KEPT: f64 = 1.1;
/// A tick's weight is capped at that of one with this share of the mean power.
const FAINTEST: f64 = 0.2;
/// How strongly a solution is held to the one before it, relative to each feature's evidence.
const HOLD: f64 = 0.01;
/// Ticks of a kind of work before its own fit replaces the guess from durations.
const NOVICE_TICKS: u32 = 8;
/// Ticks of a kind of work for which every tick brings a new fit.
const YOUNG_TICKS: u32 = 48;
/// Ticks between two fits afterwards.
const FIT_EVERY: u32 = 8;

/// One settled interval, as far as the law is concerned.
pub(super) struct Tick<'a> {
    pub(super) seconds: f64,
    pub(super) joules: f64,
    /// The parts of steps that fell into the interval.
    pub(super) parts: &'a [StepFeatures],
}

#[derive(Clone, Debug)]
pub(super) struct Law {
    works: Vec<Work>,
    ticks: Vec<u32>,
    /// Seconds per feature, per kind of work: learnt from every single step.
    durations: Vec<Normal>,
    busy: Normal,
    busy_joules: f64,
    busy_seconds: f64,
    quiet_joules: f64,
    quiet_seconds: f64,
    mean_joules: f64,
    mean_seconds: f64,
    declared_idle: Option<f64>,
    /// Idle watts, then `WIDTH` coefficients per kind of work, all in joules per feature.
    x: Vec<f64>,
    since_fit: u32,
    error: Option<f64>,
}

impl Law {
    /// `declared_idle` fixes the idle watts instead of fitting them.
    pub(super) fn new(declared_idle: Option<f64>) -> Self {
        Self {
            works: Vec::new(),
            ticks: Vec::new(),
            durations: Vec::new(),
            busy: Normal::new(1),
            busy_joules: 0.0,
            busy_seconds: 0.0,
            quiet_joules: 0.0,
            quiet_seconds: 0.0,
            mean_joules: 0.0,
            mean_seconds: 0.0,
            declared_idle,
            x: vec![declared_idle.unwrap_or(0.0)],
            since_fit: 0,
            error: None,
        }
    }

    /// Takes in a step's duration: what the guess before the first ticks is made of.
    pub(super) fn observe_step(&mut self, step: &StepFeatures) {
        let place = self.place(step.work);
        self.durations[place].decay(0.999);
        self.durations[place].add(&step.values, step.seconds, 1.0);
    }

    /// Takes in an interval's energy and fits anew when it is time.
    pub(super) fn observe_tick(&mut self, tick: &Tick) {
        if tick.seconds <= 0.0 {
            return;
        }
        self.track_error(tick);
        let fade = (-tick.seconds / QUIET_MEMORY).exp();
        let least = if self.quiet_seconds < QUIET_ENOUGH {
            0.0
        } else {
            (QUIET_KEPT / self.quiet_seconds).min(1.0)
        };
        self.quiet_joules *= fade.max(least);
        self.quiet_seconds *= fade.max(least);
        self.mean_joules = self.mean_joules * fade + tick.joules;
        self.mean_seconds = self.mean_seconds * fade + tick.seconds;
        let mut young = false;
        if tick.parts.is_empty() {
            self.quiet_joules += tick.joules;
            self.quiet_seconds += tick.seconds;
            young = self.quiet_seconds < 3.0;
        } else {
            young |= self.observe_busy(tick);
        }
        self.since_fit += 1;
        if young || self.since_fit >= FIT_EVERY {
            self.fit();
        }
    }

    fn observe_busy(&mut self, tick: &Tick) -> bool {
        let places: Vec<usize> = tick.parts.iter().map(|part| self.place(part.work)).collect();
        let mut features = vec![0.0; self.x.len()];
        let mut y = tick.joules;
        // Evidence net of the idle watts of its own time stays true when those drift.
        match self.known_idle() {
            Some(watts) => y -= watts * tick.seconds,
            None => features[0] = tick.seconds,
        }
        for (place, part) in places.iter().zip(tick.parts) {
            let own = &mut features[1 + place * WIDTH..1 + (place + 1) * WIDTH];
            own.iter_mut().zip(&part.values).for_each(|(f, v)| *f += v);
        }
        let factor = (-tick.seconds / BUSY_MEMORY).exp();
        self.busy.decay(factor);
        self.busy.add(&features, y, self.weight(tick));
        let worked: f64 = tick.parts.iter().map(|p| p.seconds).sum();
        self.busy_joules =
            self.busy_joules * factor + (tick.joules - self.idle_watts() * tick.seconds).max(0.0);
        self.busy_seconds = self.busy_seconds * factor + worked;

        let mut seen = places;
        seen.sort_unstable();
        seen.dedup();
        seen.iter()
            .for_each(|&place| self.ticks[place] = self.ticks[place].saturating_add(1));
        seen.iter().any(|&place| self.ticks[place] < YOUNG_TICKS)
    }

    /// A meter's error is a share of what it counts, so a faint tick tells more per joule than a strong one: the
    /// inverse of power squared times seconds, the power as predicted where the prediction is worth something.
    fn weight(&self, tick: &Tick) -> f64 {
        let measured = tick.joules / tick.seconds;
        let power = match self.predicted(tick) {
            Some(joules) => (joules / tick.seconds).max(0.3 * measured),
            None => measured,
        };
        let faintest = FAINTEST * self.mean_joules / self.mean_seconds.max(f64::MIN_POSITIVE);
        1.0 / (power.max(faintest).max(1e-6).powi(2) * tick.seconds)
    }

    /// The tick's energy by the law, if all its work is well known.
    fn predicted(&self, tick: &Tick) -> Option<f64> {
        let known = |p: &StepFeatures| {
            self.find(p.work)
                .is_some_and(|place| self.ticks[place] >= YOUNG_TICKS)
        };
        let busy = || tick.parts.iter().map(|p| self.joules(p)).sum::<f64>();
        tick.parts
            .iter()
            .all(known)
            .then(|| self.idle_watts() * tick.seconds + busy())
    }

    fn track_error(&mut self, tick: &Tick) {
        let Some(predicted) = self.predicted(tick) else {
            return;
        };
        if tick.joules <= 0.0 || tick.parts.is_empty() {
            return;
        }
        let error = (predicted - tick.joules).abs() / tick.joules;
        self.error = Some(self.error.map_or(error, |old| old + 0.02 * (error - old)));
    }

    fn fit(&mut self) {
        self.since_fit = 0;
        let mut target = self.x.clone();
        let known = self.known_idle();
        if self.quiet_seconds > 0.0 {
            target[0] = self.quiet_joules / self.quiet_seconds;
        }
        for place in (0..self.works.len()).filter(|&place| self.ticks[place] < NOVICE_TICKS) {
            let seconds = self.durations[place].solve(&[0.0; WIDTH], 1e-4, None);
            let own = &mut target[1 + place * WIDTH..1 + (place + 1) * WIDTH];
            let power = if self.busy_seconds > 0.0 {
                self.busy_joules / self.busy_seconds
            } else {
                0.0
            };
            own.iter_mut().zip(seconds).for_each(|(t, s)| *t = s * power);
        }
        // The guess is worth about one tick of evidence.
        let hold = HOLD + 1.0 / self.busy.count().max(1.0);
        self.x = self.busy.solve(&target, hold, known);
        self.x[0] = known.unwrap_or(self.x[0]);
    }

    /// Idle watts as declared, or as lately seen while nothing ran.
    fn known_idle(&self) -> Option<f64> {
        let quiet = (self.quiet_seconds >= QUIET_ENOUGH).then(|| self.quiet_joules / self.quiet_seconds);
        self.declared_idle.or(quiet)
    }

    /// Forgets all ticks, such as when they turn out to have been placed wrongly in time: quiet ones too, for what passed
    /// for quiet was not. The steps' durations stay.
    pub(super) fn forget_ticks(&mut self) {
        let mut blank = Self::new(self.declared_idle);
        std::mem::swap(&mut blank.works, &mut self.works);
        std::mem::swap(&mut blank.durations, &mut self.durations);
        blank.ticks = vec![0; blank.works.len()];
        blank.x.resize(1 + blank.works.len() * WIDTH, 0.0);
        blank.busy.grow(blank.x.len());
        *self = blank;
    }

    /// Idle power in watts as fitted, 0 before any evidence.
    pub(super) fn idle_watts(&self) -> f64 {
        self.x[0]
    }

    /// Joules per feature of a kind of work; for work not yet fitted, seconds per feature, which tell its rows apart
    /// just as well.
    pub(super) fn coefficients(&self, work: Work) -> [f64; WIDTH] {
        let Some(place) = self.find(work) else {
            return [1.0; WIDTH];
        };
        let fitted = &self.x[1 + place * WIDTH..1 + (place + 1) * WIDTH];
        if fitted.iter().any(|v| *v > 0.0) {
            return fitted.try_into().expect("WIDTH coefficients per kind of work");
        }
        let seconds = self.durations[place].solve(&[0.0; WIDTH], 1e-4, None);
        seconds.try_into().expect("WIDTH durations per kind of work")
    }

    /// The predicted joules of a step or a part of one, above idle. Before any tick of its work: its seconds times the
    /// mean busy power, or times 1 W if nothing is known at all.
    pub(super) fn joules(&self, part: &StepFeatures) -> f64 {
        let fitted = self
            .find(part.work)
            .map(|place| &self.x[1 + place * WIDTH..1 + (place + 1) * WIDTH]);
        match fitted {
            Some(x) if x.iter().any(|v| *v > 0.0) => dot(
                x.try_into().expect("WIDTH coefficients per kind of work"),
                &part.values,
            ),
            _ if self.busy_seconds > 0.0 && self.busy_joules > 0.0 => {
                part.seconds * self.busy_joules / self.busy_seconds
            }
            _ => part.seconds,
        }
    }

    /// Mean relative error of predicting a tick before taking it in.
    pub(super) fn error(&self) -> Option<f64> {
        self.error
    }

    fn find(&self, work: Work) -> Option<usize> {
        self.works.iter().position(|w| *w == work)
    }

    fn place(&mut self, work: Work) -> usize {
        self.find(work).unwrap_or_else(|| {
            self.works.push(work);
            self.ticks.push(0);
            self.durations.push(Normal::new(WIDTH));
            self.x.resize(self.x.len() + WIDTH, 0.0);
            self.busy.grow(self.x.len());
            self.works.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ModelId;

    fn part(tokens: f64, rows: f64) -> StepFeatures {
        let values = [tokens, 1.0, rows, 40.0 * rows];
        StepFeatures {
            work: Work::Model(ModelId(0)),
            values,
            seconds: 0.01,
        }
    }

    #[test]
    fn idle_follows_a_drift() {
        let mut law = Law::new(None);
        for k in 0..36_000u32 {
            let watts = 75.0 * (1.0 + 0.2 * f64::from(k) / 36_000.0);
            let steps = [
                part(f64::from(k % 7) * 10.0, f64::from(k % 5)),
                part(0.0, f64::from(k % 3 + 1)),
            ];
            let parts = if k % 4 == 0 { &steps[..0] } else { &steps[..] };
            let active: f64 = parts
                .iter()
                .map(|p| dot(&[0.02, 0.5, 0.03, 0.0002], &p.values))
                .sum();
            law.observe_tick(&Tick {
                seconds: 0.1,
                joules: watts * 0.1 + active,
                parts,
            });
        }
        assert!(
            (law.idle_watts() / 90.0 - 1.0).abs() < 0.02,
            "{}",
            law.idle_watts()
        );
        assert!(law.error().is_some_and(|e| e < 0.02), "{law:?}");
    }

    #[test]
    fn idle_watts_seen_once_outlast_an_hour_without_rest() {
        let mut law = Law::new(None);
        for k in 0..36_000u32 {
            // As the step takes ever the same share of the tick, busy ticks cannot tell idling from working.
            let parts = [part(f64::from(k % 7) * 10.0, 3.0)];
            let parts = if k < 50 { &parts[..0] } else { &parts[..] };
            let active = parts.len() as f64 * (20.0 + 0.7 * f64::from(k % 7));
            law.observe_tick(&Tick {
                seconds: 0.1,
                joules: 8.0 + active,
                parts,
            });
        }
        assert!(
            (law.idle_watts() / 80.0 - 1.0).abs() < 0.01,
            "{}",
            law.idle_watts()
        );
    }

    #[test]
    fn before_any_tick_time_decides() {
        let mut law = Law::new(Some(10.0));
        assert_eq!(law.joules(&part(5.0, 0.0)), 0.01);
        law.observe_step(&part(5.0, 0.0));
        assert!(
            law.coefficients(Work::Model(ModelId(0)))
                .iter()
                .all(|c| *c >= 0.0)
        );
        law.observe_tick(&Tick {
            seconds: 0.1,
            joules: 2.0,
            parts: &[part(5.0, 0.0)],
        });
        assert_eq!(law.idle_watts(), 10.0);
        assert!(
            (law.joules(&part(5.0, 0.0)) - 1.0).abs() < 0.05,
            "{}",
            law.joules(&part(5.0, 0.0))
        );
    }
}
