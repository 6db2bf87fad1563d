//! `cascade`: the cheapest model answers; while its answer is not trusted, a dearer one answers too: the cheapest
//! that is expected to be trusted, else the dearest.
//!
//! Trust is the chance that the answer satisfies: from the model's own confidence where the trace has one
//! (`confidence_X`), calibrated as labels come; else from the text, which says less, since it does not see the answer.
//! The trust demanded follows the promise, θ ← θ + η(α − s). Every answer tried is billed. It learns from judgements
//! of shown answers only. (Chen, Zaharia & Zou, "FrugalGPT", 2023, with its scorer learnt on the way.)

use std::collections::VecDeque;

use super::course::Course;
use super::play::{Traffic, judged};
use super::score::{Outcome, Score};
use crate::router::logistic::{Head, logit, sigmoid};

const STEP: f64 = 0.05;
/// Learning rate of the calibration.
const RATE: f64 = 0.1;

/// What is known of one model's answers.
#[derive(Clone, Debug, Default)]
struct Judge {
    count: f64,
    good: f64,
    head: Head,
    /// Mean and mean square of confidences seen.
    confidence: (f64, f64, f64),
    /// Platt's two numbers: chance = sigmoid(base + a + b·z), z the confidence in deviations.
    platt: [f64; 2],
}

impl Judge {
    fn base(&self) -> f64 {
        logit((self.good + 1.0) / (self.count + 2.0))
    }

    fn saw(&mut self, confidence: f64) {
        let (count, mean, square) = &mut self.confidence;
        *count += 1.0;
        *mean += (confidence - *mean) / *count;
        *square += (confidence * confidence - *square) / *count;
    }

    fn deviations(&self, confidence: f64) -> f64 {
        let (_, mean, square) = self.confidence;
        let spread = (square - mean * mean).max(0.0).sqrt();
        if spread > 0.0 {
            ((confidence - mean) / spread).clamp(-4.0, 4.0)
        } else {
            0.0
        }
    }

    fn trust(&self, features: &[u16], confidence: f64) -> f64 {
        if confidence.is_finite() {
            sigmoid(self.base() + self.platt[0] + self.platt[1] * self.deviations(confidence))
        } else {
            sigmoid(self.head.predict(features, self.base()).mean)
        }
    }

    fn learn(&mut self, features: &[u16], confidence: f64, satisfied: f64) {
        if confidence.is_finite() {
            let error = satisfied - self.trust(features, confidence);
            let z = self.deviations(confidence);
            self.platt[0] += RATE * error;
            self.platt[1] += RATE * error * z;
        }
        self.head.learn(features, self.base(), satisfied, 1.0);
        self.count += 1.0;
        self.good += satisfied;
    }
}

/// Plays a course; `first` is the promise at its start.
pub fn cascade(course: &Course, first: f64, traffic: &Traffic, score: &mut Score) {
    let models = course.models();
    let mut judges = vec![
        Judge {
            platt: [0.0, 1.0],
            ..Judge::default()
        };
        models
    ];
    let mut demanded = 0.5f64;
    let mut shown: VecDeque<usize> = VecDeque::new();
    let wait = traffic.concurrency.max(1) - 1 + traffic.delay;
    for at in 0..course.len() {
        let features = course.features(at);
        let mut model = 0;
        while model + 1 < models {
            let confidence = course.answer(at, model).confidence;
            if confidence.is_finite() {
                judges[model].saw(confidence);
            }
            if judges[model].trust(features, confidence) >= demanded {
                break;
            }
            score.tried(model);
            // Whose answer nobody has seen yet can only be trusted by the text.
            let promising = |m: &usize| judges[*m].trust(features, f64::NAN) >= demanded;
            model = (model + 1..models).find(promising).unwrap_or(models - 1);
        }
        score.add(&Outcome::plain(model, traffic.alpha(first, at)));
        shown.push_back(model);
        if shown.len() > wait
            && let Some(model) = shown.pop_front()
        {
            let done = at - wait;
            let answer = course.answer(done, model);
            if answer.judged && judged(course.seed, done, traffic.share) {
                judges[model].learn(course.features(done), answer.confidence, answer.satisfied);
                demanded += STEP * (traffic.alpha(first, done) - answer.satisfied);
                demanded = demanded.clamp(0.0, 1.0);
            }
        }
    }
}
