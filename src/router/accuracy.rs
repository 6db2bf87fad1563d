//! How far expected joules were off: of the last answers exactly, and since the start.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::Joules;

/// Answers whose errors are kept one by one.
const LATE: usize = 512;
/// Bins of the histogram of relative errors since the start: a decade from [`LEAST`] has this many.
const BINS_A_DECADE: f64 = 24.0;
const DECADES: usize = 5;
const LEAST: f64 = 1e-3;

/// Median of |expected − final| / final, and Σ expected / Σ final − 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    pub answers: u64,
    pub median_error: f64,
    pub bias: f64,
}

impl Errors {
    fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (mut expected, mut came, mut errors) = (0.0, 0.0, vec![]);
        for (one, other) in pairs {
            expected += one;
            came += other;
            errors.push((one - other).abs() / other);
        }
        let middle = errors.len().checked_sub(1)? / 2;
        let (_, median, _) = errors.select_nth_unstable_by(middle, f64::total_cmp);
        Some(Self {
            median_error: *median,
            answers: errors.len() as u64,
            bias: expected / came - 1.0,
        })
    }
}

/// One finished answer: what was expected and what came. Tokens at least 1, joules above 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Joules expected when the request was decided on.
    pub expected: Joules,
    /// Joules that the law says, given the length that came.
    pub lawful: Joules,
    pub joules: Joules,
    pub expected_tokens: f64,
    pub tokens: f64,
}

/// Errors of one model, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Accuracy {
    /// Expected, lawful and final joules, expected and final tokens of the last answers, oldest first. Single
    /// precision: they are only counted.
    late: VecDeque<[f32; 5]>,
    answers: u64,
    expected: f64,
    joules: f64,
    histogram: Vec<u64>,
}

impl Accuracy {
    pub fn add(&mut self, case: &Case) {
        let (expected, joules) = (case.expected.0, case.joules.0);
        if self.late.len() >= LATE {
            self.late.pop_front();
        }
        let row = [expected, case.lawful.0, joules, case.expected_tokens, case.tokens];
        self.late
            .push_back(row.map(|value| (value as f32).clamp(f32::MIN_POSITIVE, f32::MAX)));
        self.answers += 1;
        self.expected += expected;
        self.joules += joules;
        self.histogram
            .resize(DECADES * BINS_A_DECADE as usize, Default::default());
        let place = ((expected - joules).abs() / joules / LEAST).log10() * BINS_A_DECADE;
        let last = self.histogram.len() - 1;
        self.histogram[(place.max(0.0) as usize).min(last)] += 1;
    }

    /// Expected joules at the decision against final ones, over the last answers; none before the first.
    pub fn decided(&self) -> Option<Errors> {
        self.late(0, 2)
    }

    /// The same for what the law says given the lengths that came.
    pub fn given_length(&self) -> Option<Errors> {
        self.late(1, 2)
    }

    /// Expected tokens against those that came.
    pub fn length(&self) -> Option<Errors> {
        self.late(3, 4)
    }

    /// Expected joules at the decision against final ones since the start; the median within some 5 % of
    /// itself.
    pub fn since_start(&self) -> Option<Errors> {
        let half = self.answers as f64 / 2.0;
        let mut below = 0.0;
        for (place, count) in self.histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= half {
                let bins = place as f64 + (half - below) / count;
                return Some(Errors {
                    answers: self.answers,
                    median_error: LEAST * 10f64.powf(bins / BINS_A_DECADE),
                    bias: self.expected / self.joules - 1.0,
                });
            }
            below += count;
        }
        None
    }

    fn late(&self, expected: usize, came: usize) -> Option<Errors> {
        let pair = |row: &[f32; 5]| (f64::from(row[expected]), f64::from(row[came]));
        Errors::of(self.late.iter().map(pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(expected: f64, joules: f64) -> Case {
        Case {
            expected: Joules(expected),
            lawful: Joules(joules),
            joules: Joules(joules),
            expected_tokens: 3.0,
            tokens: 4.0,
        }
    }

    #[test]
    fn the_last_answers_and_all_of_them() {
        let mut accuracy = Accuracy::default();
        assert!(accuracy.decided().is_none() && accuracy.since_start().is_none());
        // A third is 50 % too high, the rest 10 % too low.
        for n in 0..900 {
            accuracy.add(&case(if n % 3 == 0 { 1.5 } else { 0.9 }, 1.0));
        }
        let ever = accuracy.since_start().unwrap();
        assert!((ever.median_error - 0.1).abs() < 0.01, "{ever:?}");
        assert!((ever.bias - 0.1).abs() < 1e-9 && ever.answers == 900, "{ever:?}");
        for _ in 0..LATE {
            accuracy.add(&case(2.0, 1.0));
        }
        let late = accuracy.decided().unwrap();
        assert_eq!((late.answers, late.median_error, late.bias), (512, 1.0, 1.0));
        assert_eq!(accuracy.given_length().unwrap().median_error, 0.0);
        assert_eq!(accuracy.length().unwrap().median_error, 0.25);
        assert_eq!(accuracy.since_start().unwrap().answers, 900 + 512);
        let text = serde_json::to_string(&accuracy).unwrap();
        assert!(serde_json::from_str::<Accuracy>(&text).unwrap() == accuracy);
    }
}
