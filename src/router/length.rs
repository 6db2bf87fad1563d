//! How many tokens an answer will have, before it is written.
//!
//! Per model and service level a running mean, shrunk towards the model's and the zoo's; times e^z, where z is
//! linear in the hashed features of the text and of the prompt's length. The exponent is fitted online by
//! AdaGrad (Duchi, Hazan & Singer, JMLR 2011) on the deviance of a gamma regression with log link, which aims
//! at the mean: joules are linear in length, so the mean is what they need. One set of weights is shared by
//! all models, because a request that asks for much asks it of everyone; one is each model's own.

use serde::{Deserialize, Serialize};

use super::draw::mix;
use super::event::Context;
use super::features::DIMENSIONS;

/// Tokens assumed before any answer was seen.
const FIRST_LENGTH: f64 = 64.0;
/// A mean is worth this many answers more towards what stands above it.
const SHRINKAGE: f64 = 5.0;
/// Answers after which an old one has lost most of its weight.
const MEMORY: f64 = 1000.0;
/// The shared weights take five sixths of what wording tells, so that a model that never answered profits.
const SHARED_RATE: f32 = 0.3;
const OWN_RATE: f32 = 0.06;
/// Squared gradients after which a weight's steps shrink faster than AdaGrad's, down to a share of 1/SLOWEST: an
/// answer of a well-known wording must not move its expected length by a fifth, which AdaGrad alone lets it do
/// after hundreds of them.
const SETTLED: f32 = 0.7;
const SLOWEST: f32 = 4.0;
/// Squared gradients assumed of a weight that was never moved.
const FIRST_GRADIENTS: f32 = 0.01;
/// An answer this many times longer than expected moves the weights no more than this.
const FARTHEST: f64 = 3.0;
/// Answers before foretold lengths are held against those that came, and how many the doubt is worth.
const LEVELLED_FROM: f64 = 20.0;
const LEVEL_RESERVE: f64 = 20.0;
/// The text makes an answer at most e^5 times longer or shorter.
const WIDEST: f64 = 5.0;
/// Squared coefficient of variation assumed at first, worth [`SHRINKAGE`] answers.
const FIRST_SPREAD: f64 = 0.5;

/// A running mean that forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    pub count: f64,
    pub sum: f64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        if self.count >= MEMORY {
            self.sum -= self.sum / self.count;
            self.count -= 1.0;
        }
        self.sum += value;
        self.count += 1.0;
    }

    pub fn value(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    pub fn shrunk(&self, towards: f64) -> f64 {
        (self.sum + SHRINKAGE * towards) / (self.count + SHRINKAGE)
    }
}

/// Weights of the hashed features, each with the sum of its squared gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Words {
    #[serde(with = "super::sparse")]
    weights: Vec<(f32, f32)>,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            weights: vec![(0.0, 0.0); DIMENSIONS],
        }
    }
}

impl Words {
    fn exponent(&self, places: &[u16], scale: f32) -> f32 {
        let weights = places.iter().map(|place| self.weights[usize::from(*place)].0);
        weights.sum::<f32>() * scale
    }

    fn step(&mut self, places: &[u16], gradient: f32, rate: f32) {
        for place in places {
            let (weight, gradients) = &mut self.weights[usize::from(*place)];
            *gradients += gradient * gradient;
            let settled = (1.0 + *gradients / SETTLED).sqrt().min(SLOWEST);
            *weight += rate * gradient / (settled * (*gradients + FIRST_GRADIENTS).sqrt());
        }
    }
}

/// One model's answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lengths {
    pub mean: Mean,
    /// As many as have answered.
    by_sla: Vec<Mean>,
    words: Words,
    /// What wording and base foretold and what came, once the weights have seen a few answers.
    told: Mean,
    came: Mean,
    /// Squared relative errors: how far answers of one expected length lie apart.
    spread: Mean,
}

impl Lengths {
    pub fn fits(&self, slas: usize) -> bool {
        self.by_sla.len() <= slas
    }

    pub fn remap(&mut self, map: &super::adapt::Remap) {
        self.by_sla = map.slas(&self.by_sla, |_| Mean::default());
    }

    /// Expected tokens if nothing limited the answer; `zoo`: answers of all models.
    fn unlimited(&self, shared: &Words, zoo: &Mean, sla: usize, places: &[u16]) -> f64 {
        let level = self.by_sla.get(sla).copied().unwrap_or_default();
        let base = level.shrunk(self.mean.shrunk(zoo.shrunk(FIRST_LENGTH)));
        let scale = scale(places);
        let exponent = f64::from(shared.exponent(places, scale) + self.words.exponent(places, scale));
        base * exponent.clamp(-WIDEST, WIDEST).exp()
    }

    /// What brings foretold lengths to the right mean: weights that still jitter make e^z too large on average.
    fn levelled(&self) -> f64 {
        let reserve = LEVEL_RESERVE * self.mean.value().unwrap_or(1.0);
        (self.came.sum + reserve) / (self.told.sum + reserve)
    }

    /// Expected tokens of the answer, which ends at `max_tokens`.
    pub fn expected(&self, shared: &Words, zoo: &Mean, sla: usize, context: &Context) -> f64 {
        let mean = self.unlimited(shared, zoo, sla, &places(context)) * self.levelled();
        limited(
            mean,
            self.spread.shrunk(FIRST_SPREAD),
            f64::from(context.max_tokens),
        )
    }

    /// Takes in the length of a finished answer.
    pub fn learn(&mut self, shared: &mut Words, zoo: &mut Mean, sla: usize, context: &Context, tokens: u32) {
        let places = places(context);
        let mean = self.unlimited(shared, zoo, sla, &places);
        let mut tokens = f64::from(tokens.max(1));
        if tokens >= f64::from(context.max_tokens) {
            // Cut off: it would have been at least as long as thought.
            tokens = tokens.max(mean);
        }
        let error = tokens / mean - 1.0;
        let gradient = error.clamp(-1.0, FARTHEST) as f32 * scale(&places);
        shared.step(&places, gradient, SHARED_RATE);
        self.words.step(&places, gradient, OWN_RATE);
        if self.mean.count >= LEVELLED_FROM {
            self.told.add(mean);
            self.came.add(tokens);
        }
        self.spread.add((error * error).min(FARTHEST * FARTHEST));
        if self.by_sla.len() <= sla {
            self.by_sla.resize(sla + 1, Mean::default());
        }
        for mean in [zoo, &mut self.mean, &mut self.by_sla[sla]] {
            mean.add(tokens);
        }
    }
}

/// The features of the text and one for the prompt's length, two to an octave.
fn places(context: &Context) -> Vec<u16> {
    const SALT: u64 = 0x6c65_6e67_7468;
    let prompt = context.prompt_tokens.iter().copied().max().unwrap_or(0);
    let octaves = (2.0 * f64::from(prompt + 1).log2()) as u64;
    let mut places = context.features.clone();
    places.push((mix(SALT ^ octaves) >> 50) as u16);
    places
}

fn scale(places: &[u16]) -> f32 {
    1.0 / (places.len() as f32).sqrt()
}

/// E min(L, most) for a lognormal L with this mean and squared coefficient of variation: its limited expected
/// value, μ Φ((ln most − ln μ − s²/2)/s) + most (1 − Φ((ln most − ln μ + s²/2)/s)), s² = ln(1 + spread).
fn limited(mean: f64, spread: f64, most: f64) -> f64 {
    let variance = spread.max(1e-3).ln_1p();
    let (distance, half, deviation) = ((most.max(1.0) / mean).ln(), variance / 2.0, variance.sqrt());
    let below = normal((distance - half) / deviation);
    let above = 1.0 - normal((distance + half) / deviation);
    (mean * below + most * above).min(most)
}

/// The normal distribution's cumulative function, within 2e-4: Page, "Approximations to the cumulative normal
/// function", Applied Statistics 26 (1977).
fn normal(z: f64) -> f64 {
    let y = (2.0 / std::f64::consts::PI).sqrt() * z * (1.0 + 0.044715 * z * z);
    0.5 * (1.0 + y.tanh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use crate::router::features::hashed;

    fn context(text: &str, prompt: u32, max_tokens: u32) -> Context {
        Context {
            features: hashed(text),
            prompt_tokens: vec![prompt],
            max_tokens,
            ..Context::default()
        }
    }

    /// Lognormal with mean `mean` and log-deviation `s`: twelve uniforms make a normal.
    fn lognormal(draw: &mut Draw, mean: f64, s: f64) -> u32 {
        let normal = (0..12).map(|_| draw.uniform()).sum::<f64>() - 6.0;
        (mean * (s * normal - s * s / 2.0).exp()).round().max(1.0) as u32
    }

    #[test]
    fn wording_tells_the_length_and_a_new_model_profits_from_the_others() {
        let kinds = [("Is it true that # ?", 4.0), ("Write an essay about @", 300.0)];
        let (mut shared, mut zoo) = (Words::default(), Mean::default());
        let mut models = [Lengths::default(), Lengths::default()];
        let mut draw = Draw::new(3, 0);
        for n in 0..400 {
            let (wording, mean) = kinds[n % 2];
            let context = context(&wording.replace('@', &format!("topic{n}")), 12, 4096);
            let tokens = lognormal(&mut draw, mean, 0.4);
            models[0].learn(&mut shared, &mut zoo, 0, &context, tokens);
        }
        for (wording, mean) in kinds {
            let context = context(&wording.replace('@', "topic9999"), 12, 4096);
            let known = models[0].expected(&shared, &zoo, 0, &context);
            assert!((known / mean).ln().abs() < 0.25, "{wording}: {known}");
            let new = models[1].expected(&shared, &zoo, 0, &context);
            assert!((new / mean).ln().abs() < 0.9, "{wording}: {new}");
        }
    }

    #[test]
    fn an_answer_cut_off_does_not_teach_that_answers_are_short() {
        let (mut shared, mut zoo) = (Words::default(), Mean::default());
        let mut model = Lengths::default();
        let mut draw = Draw::new(5, 0);
        for _ in 0..300 {
            let tokens = lognormal(&mut draw, 200.0, 0.3);
            model.learn(&mut shared, &mut zoo, 0, &context("Tell me", 9, 4096), tokens);
        }
        for _ in 0..300 {
            model.learn(&mut shared, &mut zoo, 0, &context("Tell me", 9, 20), 20);
        }
        let long = model.expected(&shared, &zoo, 0, &context("Tell me", 9, 4096));
        assert!(long > 150.0, "{long}");
        let short = model.expected(&shared, &zoo, 0, &context("Tell me", 9, 20));
        assert!((short - 20.0).abs() < 0.5, "{short}");
    }

    #[test]
    fn the_limited_mean_is_that_of_draws() {
        let mut draw = Draw::new(1, 0);
        for (mean, s, most) in [(50.0, 0.5, 60.0), (50.0, 0.9, 30.0), (20.0, 0.2, 22.0)] {
            let draws = 20_000;
            let sum: f64 = (0..draws)
                .map(|_| f64::from(lognormal(&mut draw, mean, s)).min(most))
                .sum();
            let truth = sum / f64::from(draws);
            let told = limited(mean, f64::exp(s * s) - 1.0, most);
            assert!((told / truth - 1.0).abs() < 0.02, "{told} against {truth}");
        }
        assert_eq!(limited(10.0, 0.5, 1e12).round(), 10.0);
    }
}
