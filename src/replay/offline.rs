//! `logistic`: what a router trained beforehand comes to.
//!
//! Per model a logistic regression over the hashed words of the texts, trained on the labels of every second request
//! and asked about the others, and the other way round: each prediction is made from half of the labels, never from
//! its own. The price of satisfaction is then set in hindsight, so that the stream just reaches its promise. Training
//! is not billed. It flatters: no router has these labels.

use super::course::{Course, Stream};
use super::mixture::{self, Offer};
use super::score::{Outcome, Score};
use super::trace::Trace;
use crate::router::logistic::{Head, logit, sigmoid};

/// How much of what the regression says is believed: the share that predicts best while it is being trained.
const TRUSTS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// Predicted satisfaction and mean joules of every answer of a stream, made before it is played.
#[derive(Clone, Debug)]
pub struct Foreknowledge {
    models: usize,
    /// By place in the trace, then model.
    predicted: Vec<f32>,
    /// By category, then model: mean joules.
    joules: Vec<Vec<f64>>,
}

impl Foreknowledge {
    pub fn train(trace: &Trace, stream: &Stream) -> Self {
        let models = trace.models.len();
        let mut predicted = vec![0.0; trace.requests.len() * models];
        for half in 0..2 {
            for model in 0..models {
                let head = Half::train(trace, stream, model, half);
                for place in stream
                    .requests
                    .iter()
                    .skip(1 - half)
                    .step_by(2)
                    .map(|r| *r as usize)
                {
                    predicted[place * models + model] = head.predict(trace.features(place)) as f32;
                }
            }
        }
        let mut sums = vec![(0.0f64, vec![0.0; models]); trace.categories.len()];
        for place in stream.requests.iter().map(|r| *r as usize) {
            let (count, sums) = &mut sums[usize::from(trace.requests[place].category)];
            *count += 1.0;
            sums.iter_mut()
                .zip(trace.answers(place))
                .for_each(|(sum, answer)| *sum += answer.joules);
        }
        let mean = |(count, sums): (f64, Vec<f64>)| sums.iter().map(|sum| sum / count.max(1.0)).collect();
        Self {
            models,
            predicted,
            joules: sums.into_iter().map(mean).collect(),
        }
    }

    fn offers(&self, course: &Course, at: usize) -> Vec<Offer> {
        let joules = &self.joules[usize::from(course.request(at).category)];
        let predicted = &self.predicted[course.place(at) * self.models..][..self.models];
        joules
            .iter()
            .zip(predicted)
            .map(|(joules, chance)| (*joules, f64::from(*chance)))
            .collect()
    }
}

/// One model's regression on every second request.
struct Half {
    base: f64,
    trust: f64,
    head: Head,
}

impl Half {
    fn train(trace: &Trace, stream: &Stream, model: usize, half: usize) -> Self {
        let labelled = || {
            let rows = stream.requests.iter().skip(half).step_by(2).map(|r| *r as usize);
            rows.map(|place| (trace.features(place), trace.answers(place)[model]))
                .filter(|(_, a)| a.judged)
        };
        let (count, good) = labelled().fold((0.0, 0.0), |(count, good), (_, a)| {
            (count + 1.0, good + a.satisfied)
        });
        let mut half = Self {
            base: logit((good + 1.0) / (count + 2.0)),
            trust: 0.0,
            head: Head::default(),
        };
        let mut losses = [0.0; TRUSTS.len()];
        for (features, answer) in labelled() {
            // Each label is predicted before it is learnt from, so these losses are honest.
            for (trust, loss) in TRUSTS.iter().zip(&mut losses) {
                half.trust = *trust;
                let said = half.predict(features);
                *loss -= answer.satisfied * said.ln() + (1.0 - answer.satisfied) * (1.0 - said).ln();
            }
            half.head.learn(features, half.base, answer.satisfied, 1.0);
        }
        let best = (0..TRUSTS.len()).fold(0, |best, at| if losses[at] < losses[best] { at } else { best });
        half.trust = TRUSTS[best];
        half
    }

    fn predict(&self, features: &[u16]) -> f64 {
        let said = self.head.predict(features, 0.0).mean;
        sigmoid(self.base + self.trust * said)
    }
}

pub fn logistic(course: &Course, foreknowledge: &Foreknowledge, alpha: f64, score: &mut Score) {
    let offers: Vec<Vec<Offer>> = (0..course.len())
        .map(|at| foreknowledge.offers(course, at))
        .collect();
    let truth = |at: usize, model: usize| course.answer(at, model).satisfied;
    for choice in mixture::trade(&offers, truth, alpha * course.len() as f64) {
        score.add(&Outcome::plain(choice, alpha));
    }
}
