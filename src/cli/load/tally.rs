//! What a run has brought so far. Plain counting: no clock, no network.

use std::collections::BTreeMap;

use super::numbers::{mean, percentile};

/// One answer, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub request_id: Option<String>,
    pub model: String,
    pub satisfied: bool,
    pub explored: bool,
    pub alpha: Option<f64>,
    pub latency_ms: f64,
    pub energy: Option<Spent>,
    /// What the router expected of each model.
    pub expected_joules: Vec<(String, f64)>,
}

/// The energy of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// Of the answer the client got.
    pub joules: f64,
    /// Of other models' answers to the same request.
    pub exploration: f64,
    pub source: String,
    /// Whether the meter has spoken, so that it will not change any more.
    pub is_final: bool,
}

/// Answers in the order they came, and what went wrong instead.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answers: Vec<Answer>,
    /// What was said, and how often.
    pub errors: BTreeMap<String, usize>,
    satisfied: usize,
    /// The lowest share satisfied from the [`SETTLED`]th answer on.
    low: Option<f64>,
}

/// Answers after which the share satisfied must no longer swing below the promise.
pub const SETTLED: usize = 500;

impl Tally {
    pub fn answer(&mut self, answer: Answer) {
        self.satisfied += usize::from(answer.satisfied);
        self.answers.push(answer);
        if let Some(share) = self.satisfaction().filter(|_| self.answered() >= SETTLED) {
            self.low = Some(self.low.map_or(share, |low| low.min(share)));
        }
    }

    pub fn error(&mut self, what: String) {
        *self.errors.entry(what).or_default() += 1;
    }

    pub fn answered(&self) -> usize {
        self.answers.len()
    }

    pub fn failed(&self) -> usize {
        self.errors.values().sum()
    }

    pub fn satisfied(&self) -> usize {
        self.satisfied
    }

    /// The share satisfied of those answered.
    pub fn satisfaction(&self) -> Option<f64> {
        (self.answered() > 0).then(|| self.satisfied as f64 / self.answered() as f64)
    }

    /// The worst that [`Tally::satisfaction`] ever was from the [`SETTLED`]th answer on.
    pub fn lowest_satisfaction(&self) -> Option<f64> {
        self.low
    }

    /// The promise the last answer was given under.
    pub fn alpha(&self) -> Option<f64> {
        self.answers.iter().rev().find_map(|a| a.alpha)
    }

    /// Mean joules of a request, exploration included.
    pub fn joules_per_request(&self) -> Option<f64> {
        mean(
            self.answers
                .iter()
                .filter_map(|a| a.energy.as_ref())
                .map(|e| e.joules + e.exploration),
        )
    }

    /// Mean joules of exploration over all requests.
    pub fn exploration_per_request(&self) -> Option<f64> {
        mean(
            self.answers
                .iter()
                .filter_map(|a| a.energy.as_ref())
                .map(|e| e.exploration),
        )
    }

    /// Answers by model, as a share of all.
    pub fn shares(&self) -> BTreeMap<&str, f64> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.model.as_str()).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|(model, count)| (model, count as f64 / self.answered() as f64))
            .collect()
    }

    /// Satisfied and answered, and mean joules of the answers themselves, by model.
    pub fn by_model(&self) -> Vec<ModelTally<'_>> {
        self.shares()
            .into_iter()
            .map(|(model, share)| {
                let mine = || self.answers.iter().filter(|a| a.model == model);
                ModelTally {
                    model,
                    share,
                    answered: mine().count(),
                    satisfied: mine().filter(|a| a.satisfied).count(),
                    joules: mean(mine().filter_map(|a| a.energy.as_ref()).map(|e| e.joules)),
                }
            })
            .collect()
    }

    /// The share of requests another model answered too.
    pub fn explored(&self) -> Option<f64> {
        mean(self.answers.iter().map(|a| f64::from(u8::from(a.explored))))
    }

    /// Milliseconds that these shares of the answers did not exceed.
    pub fn latency(&self, shares: [f64; 3]) -> [Option<f64>; 3] {
        let mut sorted: Vec<_> = self.answers.iter().map(|a| a.latency_ms).collect();
        sorted.sort_by(f64::total_cmp);
        shares.map(|share| percentile(&sorted, share))
    }

    /// Where the joules come from; several words where it was not always the same.
    pub fn meter(&self) -> Option<String> {
        let mut sources: Vec<_> = self
            .answers
            .iter()
            .filter_map(|a| a.energy.as_ref())
            .map(|e| e.source.as_str())
            .collect();
        sources.sort_unstable();
        sources.dedup();
        (!sources.is_empty()).then(|| sources.join("+"))
    }

    /// The model the router lately expected to cost most.
    pub fn dearest(&self) -> Option<String> {
        let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        // The expectations of the last answers, which rest on the most measurements.
        for (model, joules) in self
            .answers
            .iter()
            .rev()
            .take(200)
            .flat_map(|a| &a.expected_joules)
        {
            let entry = sums.entry(model).or_default();
            *entry = (entry.0 + joules, entry.1 + 1);
        }
        let cost = |(_, (sum, count)): &(&str, (f64, usize))| sum / *count as f64;
        sums.into_iter()
            .max_by(|a, b| cost(a).total_cmp(&cost(b)))
            .map(|(model, _)| model.to_string())
    }
}

/// One model's part of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelTally<'a> {
    pub model: &'a str,
    pub share: f64,
    pub answered: usize,
    pub satisfied: usize,
    pub joules: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(model: &str, satisfied: bool, joules: f64) -> Answer {
        let energy = Spent {
            joules,
            exploration: 0.5,
            source: "modelled".into(),
            is_final: true,
        };
        Answer {
            model: model.into(),
            satisfied,
            energy: Some(energy),
            ..Answer::default()
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let tally = Tally::default();
        assert_eq!(
            (tally.satisfaction(), tally.joules_per_request(), tally.dearest()),
            (None, None, None)
        );
        assert_eq!((tally.latency([0.5, 0.9, 1.0]), tally.meter()), ([None; 3], None));
        assert!(tally.shares().is_empty());
    }

    #[test]
    fn answers_add_up() {
        let mut tally = Tally::default();
        tally.answer(answer("small", true, 1.0));
        tally.answer(answer("small", false, 2.0));
        tally.answer(answer("large", true, 9.0));
        tally.error("429: full".into());
        tally.error("429: full".into());
        assert_eq!((tally.answered(), tally.failed(), tally.satisfied()), (3, 2, 2));
        assert_eq!(tally.joules_per_request(), Some(4.5));
        assert_eq!(tally.exploration_per_request(), Some(0.5));
        assert_eq!(tally.meter().as_deref(), Some("modelled"));
        let small = &tally.by_model()[1];
        assert_eq!(
            (small.model, small.answered, small.satisfied, small.joules),
            ("small", 2, 1, Some(1.5))
        );
        assert!((tally.shares().values().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_low_is_looked_for_only_once_settled() {
        let mut tally = Tally::default();
        for n in 1..=1000 {
            // Bad for ten, good until 600, bad for forty, good again.
            tally.answer(answer("m", !(n <= 10 || (601..=640).contains(&n)), 1.0));
            assert_eq!(tally.lowest_satisfaction().is_some(), n >= SETTLED);
        }
        assert_eq!(tally.lowest_satisfaction(), Some(590.0 / 640.0));
        assert_eq!(tally.satisfaction(), Some(0.95));
    }

    #[test]
    fn the_dearest_is_what_was_expected_to_be() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            let expected_joules = vec![("a".into(), 1.0), ("b".into(), 7.0), ("c".into(), 2.0)];
            tally.answer(Answer {
                expected_joules,
                ..Answer::default()
            });
        }
        assert_eq!(tally.dearest().as_deref(), Some("b"));
    }
}
