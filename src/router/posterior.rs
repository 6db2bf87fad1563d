//! Base rates: how often each model satisfies, as Beta posteriors per model, and per model and service level.
//!
//! A service level's rate is shrunk to the model's rate over all levels by `SHRINKAGE` pseudo-answers, so
//! that a new level starts where the others are. Old answers fade once `memory` of them are counted.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::logistic::{logit, sigmoid};

const SHRINKAGE: f64 = 20.0;
const PRIOR_WEIGHT: f64 = 20.0;
/// Log-odds of the largest model above α before any answer is judged, and of the smallest below it.
const PRIOR_SPREAD: f64 = 0.8;
/// The promised level is worth this many answers, another model's at most so many.
const LEVEL_WEIGHT: f64 = 10.0;
const LEVEL_MOST: f64 = 30.0;

/// Counted evidence: answers and the satisfied ones among them, both weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    pub answers: f64,
    pub satisfied: f64,
}

impl Count {
    /// A negative weight takes an answer back.
    pub fn add(&mut self, satisfied: f64, weight: f64, memory: f64) {
        self.fade((memory - weight).max(0.0));
        self.answers = (self.answers + weight).max(0.0);
        self.satisfied = (self.satisfied + weight * satisfied).clamp(0.0, self.answers);
    }

    /// Keeps the rate but counts at most `answers` answers.
    pub fn fade(&mut self, answers: f64) {
        if self.answers > answers {
            self.satisfied *= answers / self.answers;
            self.answers = answers;
        }
    }

    /// Mean and standard deviation under a Beta prior of the given mean and weight.
    pub fn posterior(&self, mean: f64, weight: f64) -> (f64, f64) {
        let total = self.answers + weight;
        let rate = ((self.satisfied + weight * mean) / total).clamp(1e-4, 1.0 - 1e-4);
        (rate, (rate * (1.0 - rate) / (total + 1.0)).sqrt())
    }
}

/// The base rates of the zoo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Log-odds: of the promised rate, and of every model's before its answers are judged.
    middle: f64,
    priors: Vec<f64>,
    pooled: Vec<Count>,
    /// By service level, then model.
    levels: Vec<Vec<Count>>,
}

impl Rates {
    /// `order` lists the models from small to large: before any answer is judged, larger is believed to be
    /// better, and `promised`, the mean α, to lie in the middle of what they reach: who promises it believes that
    /// the zoo can keep it, and that the smallest model cannot. Worth twenty answers, fewer than any choice rests on.
    pub fn new(order: &[usize], slas: usize, promised: f64) -> Self {
        let count = order.len();
        Self {
            middle: logit(promised),
            priors: priors(order, promised),
            pooled: vec![Count::default(); count],
            levels: vec![vec![Count::default(); count]; slas],
        }
    }

    /// What is believed of a model before its own answers: its place among the others, on the level at which theirs
    /// were judged. Easy requests are easy for all.
    fn prior(&self, model: usize) -> f64 {
        let (mut weight, mut level) = (LEVEL_WEIGHT, 0.0);
        for (other, count) in self
            .pooled
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != model)
        {
            let answers = count.answers.min(LEVEL_MOST);
            let seen = count.posterior(sigmoid(self.priors[other]), PRIOR_WEIGHT).0;
            weight += answers;
            level += answers * (logit(seen) - self.priors[other]);
        }
        sigmoid(self.priors[model] + level / weight)
    }

    /// The log-odds of every model before any answer is judged.
    pub fn levels(&self) -> &[f64] {
        &self.priors
    }

    /// Mean and standard deviation of a model's rate at a service level.
    pub fn rate(&self, sla: usize, model: usize) -> (f64, f64) {
        let (mean, deviation) = self.pooled[model].posterior(self.prior(model), PRIOR_WEIGHT);
        if self.levels.len() == 1 {
            return (mean, deviation);
        }
        self.levels[sla][model].posterior(mean, SHRINKAGE)
    }

    /// [`Self::rate`] with a deviation that a few answers of one kind cannot make small: as if the model answered
    /// like a middling one. Four answers, none satisfied, do not show a model to be useless.
    pub fn cautious(&self, sla: usize, model: usize) -> (f64, f64) {
        let (mean, deviation) = self.rate(sla, model);
        let middling = sigmoid(self.middle);
        let factor = (middling * (1.0 - middling) / (mean * (1.0 - mean))).sqrt();
        (mean, deviation * factor.max(1.0))
    }

    pub fn add(&mut self, sla: usize, model: usize, satisfied: f64, weight: f64, memory: f64) {
        self.pooled[model].add(satisfied, weight, memory);
        self.levels[sla][model].add(satisfied, weight, memory);
    }

    /// Keeps the rates of a model but trusts them no more than `answers` answers.
    pub fn doubt(&mut self, model: usize, answers: f64) {
        self.pooled[model].fade(answers);
        self.levels
            .iter_mut()
            .for_each(|level| level[model].fade(answers));
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.priors.len() == models
            && self.pooled.len() == models
            && self.levels.len() == slas
            && self.levels.iter().all(|level| level.len() == models)
    }

    pub fn remap(&mut self, map: &Remap, order: &[usize], promised: f64) {
        self.middle = logit(promised);
        self.priors = priors(order, promised);
        self.pooled = map.models(&self.pooled, |_| Count::default());
        for level in &mut self.levels {
            *level = map.models(level, |_| Count::default());
        }
        self.levels = map.slas(&self.levels, |_| vec![Count::default(); order.len()]);
    }
}

fn priors(order: &[usize], promised: f64) -> Vec<f64> {
    let mut priors = vec![0.0; order.len()];
    let last = order.len().saturating_sub(1).max(1) as f64;
    for (rank, model) in order.iter().enumerate() {
        let place = if order.len() == 1 {
            1.0
        } else {
            2.0 * rank as f64 / last - 1.0
        };
        priors[*model] = logit(promised) + PRIOR_SPREAD * place;
    }
    priors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_level_starts_at_the_pooled_rate() {
        let mut rates = Rates::new(&[0, 1], 2, 0.8);
        assert!(rates.rate(0, 0).0 < 0.7 && rates.rate(0, 1).0 > 0.85);
        for n in 0..400 {
            rates.add(0, 0, f64::from(n % 4 != 0), 1.0, 4000.0);
        }
        assert!((rates.rate(1, 0).0 - 0.75).abs() < 0.01);
        for _ in 0..100 {
            rates.add(1, 0, 0.0, 1.0, 4000.0);
        }
        assert!(rates.rate(1, 0).0 < 0.15 && rates.rate(0, 0).0 > 0.7);
    }

    #[test]
    fn the_past_fades() {
        let mut count = Count::default();
        (0..10_000).for_each(|_| count.add(1.0, 1.0, 100.0));
        assert!((count.answers - 100.0).abs() < 1e-9);
        (0..300).for_each(|_| count.add(0.0, 1.0, 100.0));
        assert!(count.posterior(0.5, 2.0).0 < 0.1);
    }
}
