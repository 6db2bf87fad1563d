//! What part of a step a meter shows between two moments. A counter shows what was spent; the integral of a power that is
//! a mean over a window shows every joule spread evenly over the window that follows it.

use crate::units::Moment;

/// A trailing window of averaging, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Smear {
    nanos: u64,
}

impl Smear {
    pub(super) fn new(seconds: Option<f64>) -> Self {
        Self {
            nanos: (seconds.unwrap_or(0.0) * 1e9) as u64,
        }
    }

    /// When the last of what was spent until `end` shows.
    pub(super) fn shown_until(self, end: Moment) -> Moment {
        Moment(end.0.saturating_add(self.nanos))
    }

    /// All that was spent until here has been shown by `until`.
    pub(super) fn complete_until(self, until: Moment) -> Moment {
        Moment(until.0.saturating_sub(self.nanos))
    }

    /// The share of what is spent evenly from `start` to `end` that shows from `from` to `until`. Shares of intervals
    /// that follow each other add up to 1. A step without a length is spent at its end.
    pub(super) fn share(self, (start, end): (Moment, Moment), (from, until): (Moment, Moment)) -> f64 {
        if until <= from || until <= start || self.shown_until(end) < from {
            return 0.0;
        }
        self.shown(start, end, until) - self.shown(start, end, from)
    }

    fn shown(self, start: Moment, end: Moment, at: Moment) -> f64 {
        if at <= start {
            return 0.0;
        }
        if at >= self.shown_until(end) && at > end {
            return 1.0;
        }
        let length = end.seconds_since(start);
        let passed = at.seconds_since(start);
        if self.nanos == 0 {
            return if length > 0.0 {
                passed.min(length) / length
            } else {
                0.0
            };
        }
        let window = self.nanos as f64 * 1e-9;
        // The integral over the window of what was spent by each moment of it.
        let area = |t: f64| {
            if t <= 0.0 {
                0.0
            } else if t < length {
                t * t / (2.0 * length)
            } else {
                t - length / 2.0
            }
        };
        (area(passed) - area(passed - window)) / window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_of_a_step_add_up_to_it(
            start in 0u64..1_000, length in 0u64..700, window in 0u64..2_000, cuts in prop::collection::vec(0u64..5_000, 0..9),
        ) {
            let smear = Smear { nanos: window };
            let step = (Moment(start), Moment(start + length));
            let mut cuts = [vec![0, 5_000], cuts].concat();
            cuts.sort_unstable();
            let shares = cuts.windows(2).map(|c| smear.share(step, (Moment(c[0]), Moment(c[1]))));
            let shares: Vec<f64> = shares.collect();
            prop_assert!(shares.iter().all(|s| (-1e-9..=1.0 + 1e-9).contains(s)), "{shares:?}");
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{shares:?}");
        }

        /// Against the mean of power summed up nanosecond by nanosecond.
        #[test]
        fn is_what_an_averaging_meter_integrates_to(start in 0u64..40, length in 1u64..40, window in 1u64..50, from in 0u64..60, long in 1u64..60) {
            let power = |t: u64| if (start..start + length).contains(&t) { 1.0 / length as f64 } else { 0.0 };
            let mean = |t: u64| ((t + 1).saturating_sub(window)..=t).map(power).sum::<f64>() / window as f64;
            let summed: f64 = (from..from + long).map(mean).sum();
            let smear = Smear { nanos: window };
            let share = smear.share((Moment(start), Moment(start + length)), (Moment(from), Moment(from + long)));
            // Whole nanoseconds against time without grain: off by half a grain at both ends.
            prop_assert!((share - summed).abs() <= 1.0 / window.max(length) as f64 + 1e-9, "{share} {summed}");
        }
    }
}
