//! What an answer will cost in joules, learned from finished ones.
//!
//! Per model, joules = a·prompt + b + c·output + d·output/(1 + company), all coefficients ≥ 0. The prompt
//! counts without what the prefix cache is expected to hold. The last term is the part of a decode step that
//! requests running beside it share, so joining a running batch is dear only in c. Fitted by non-negative
//! least squares on relative errors, with forgetting (`FORGET`) and a weak pull towards the size of the model,
//! which is all that is known before anything is measured. The output length is foretold by
//! [`super::length`].
//!
//! What was expected at the decision is held against what came ([`super::accuracy`]), and a slow factor per
//! model (`CORRECTION`) takes out what stays wrong on average: choosing what looks cheap picks what was
//! underestimated, and errors of length and of law need not cancel.

use serde::{Deserialize, Serialize};

use super::accuracy::{Accuracy, Case};
use super::adapt::Remap;
use super::config::ModelInfo;
use super::event::Context;
use super::length::{Lengths, Mean, Words};
use super::nnls::{self, TERMS};
use super::report::{CostReport, LawReport, LengthReport, ModelCostReport};
use crate::units::Joules;

/// Weight that an observation keeps when the next one comes.
const FORGET: f64 = 0.99;
/// A request of middling size, for scaling the pull towards the prior.
const TYPICAL: [f64; TERMS] = [64.0, 1.0, 32.0, 32.0];
/// The prior is worth this many observations.
const PULL: f64 = 0.05;
/// Joules per parameter and token assumed until something is measured; only ratios between models matter
/// then.
const FIRST_GUESS: f64 = 1e-10;
/// Answers measured before the law is trusted to say how large an answer is, and what is off on average.
const TRUSTED_FROM: u64 = 20;
/// What a model's size says is worth this many measured answers at first, none once so many were measured.
const DOUBT: f64 = 10.0;
const KNOWN: f64 = 60.0;
/// No answer counts as cheaper than this share of a mean one.
const LEAST_SHARE: f64 = 0.1;
/// What an answer costs above this many times more than expected was mostly bad luck (another process took the
/// processor while the meter ran): it pulls the law no harder than at this error, as Huber has it. The
/// correction sees it whole, so that the mean stays right.
const OUTLIER: f64 = 1.0;
/// An answer that cost a mean answer more than expected raises the correction by this share.
const CORRECTION: f64 = 0.003;
/// The correction's logarithm stays within this.
const FARTHEST_CORRECTION: f64 = 1.0;

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bill {
    /// Tokens of the prompt, of which `cached` were not computed.
    pub prompt: u32,
    pub cached: u32,
    pub output: u32,
    pub joules: f64,
}

impl Bill {
    fn terms(&self, company: f64) -> [f64; TERMS] {
        let paid = self.prompt.saturating_sub(self.cached);
        terms(f64::from(paid), f64::from(self.output.max(1)), company)
    }
}

/// What is known about one model's cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ModelCost {
    parameters: f64,
    gram: [[f64; TERMS]; TERMS],
    pull: [f64; TERMS],
    coefficients: [f64; TERMS],
    measured: u64,
    /// Running sums of measured joules and of what the model's size alone would have said.
    joules: f64,
    by_size: f64,
    recent: Mean,
    #[serde(default)]
    lengths: Lengths,
    /// Prompt tokens a request, and those among them that were cached.
    #[serde(default)]
    prompt: Mean,
    #[serde(default)]
    cached: Mean,
    /// Logarithm of the factor that expectations are multiplied by.
    #[serde(default)]
    correction: f64,
    #[serde(default)]
    accuracy: Accuracy,
}

impl ModelCost {
    fn new(model: &ModelInfo) -> Self {
        Self {
            parameters: model.parameters.max(1) as f64,
            gram: [[0.0; TERMS]; TERMS],
            pull: [0.0; TERMS],
            coefficients: [0.0; TERMS],
            measured: 0,
            joules: 0.0,
            by_size: 0.0,
            recent: Mean::default(),
            lengths: Lengths::default(),
            prompt: Mean::default(),
            cached: Mean::default(),
            correction: 0.0,
            accuracy: Accuracy::default(),
        }
    }

    fn prior(&self) -> [f64; TERMS] {
        let token = self.parameters * FIRST_GUESS;
        [0.2 * token, 0.0, 0.5 * token, 0.5 * token]
    }

    /// Share of a prompt that the cache has had of late.
    fn cached_share(&self) -> f64 {
        if self.prompt.sum > 0.0 {
            (self.cached.sum / self.prompt.sum).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Joules by the law and the correction; by the prior before anything was measured.
    fn law(&self, terms: &[f64; TERMS], unit: f64) -> f64 {
        let prior = (dot(&self.prior(), terms) * unit).max(f64::MIN_POSITIVE);
        let law = (dot(&self.coefficients, terms) * self.correction.exp()).max(f64::MIN_POSITIVE);
        // Of the first answers a single long one must not make the model look dear for good: nobody would ask it again.
        let doubt = DOUBT * (1.0 - self.measured as f64 / KNOWN).max(0.0);
        let trust = self.measured as f64 / (self.measured as f64 + doubt).max(1.0);
        (trust * law.ln() + (1.0 - trust) * prior.ln()).exp()
    }

    fn correct(&mut self, expected: f64, joules: f64) {
        let Some(mean) = self.recent.value().filter(|_| self.measured >= TRUSTED_FROM) else {
            return;
        };
        let error = ((joules - expected) / mean).clamp(-10.0, 10.0);
        self.correction =
            (self.correction + CORRECTION * error).clamp(-FARTHEST_CORRECTION, FARTHEST_CORRECTION);
    }

    /// What an answer counts in the fit: errors are relative to what it was expected to cost.
    fn weight(&self, terms: &[f64; TERMS], joules: f64) -> f64 {
        let Some(mean) = self.recent.value().filter(|_| self.measured >= TRUSTED_FROM) else {
            return scale(terms).powi(-2);
        };
        let expected = dot(&self.coefficients, terms).max(LEAST_SHARE * mean);
        let surprise = (joules / expected - 1.0).max(OUTLIER);
        (scale(&TYPICAL) * expected / mean).powi(-2) * OUTLIER / surprise
    }

    fn fit(&mut self, terms: &[f64; TERMS], joules: f64, unit: f64) {
        let weight = self.weight(terms, joules);
        for row in 0..TERMS {
            for column in 0..TERMS {
                let entry = &mut self.gram[row][column];
                *entry = FORGET * *entry + weight * terms[row] * terms[column];
            }
            self.pull[row] = FORGET * self.pull[row] + weight * terms[row] * joules;
        }
        let prior = self.prior().map(|p| p * unit);
        let size = scale(&TYPICAL);
        let (mut gram, mut pull) = (self.gram, self.pull);
        for term in 0..TERMS {
            let ridge = PULL * (TYPICAL[term] / size).powi(2);
            gram[term][term] += ridge;
            pull[term] += ridge * prior[term];
        }
        self.coefficients = nnls::solve(&gram, &pull);
    }
}

/// The cost models of the zoo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    models: Vec<ModelCost>,
    /// Lengths of all models' answers, and what their wording tells of it whoever answers.
    #[serde(default)]
    length: Mean,
    #[serde(default)]
    words: Words,
    /// Errors over all models.
    #[serde(default)]
    accuracy: Accuracy,
}

impl CostModel {
    pub fn new(models: &[ModelInfo]) -> Self {
        Self {
            models: models.iter().map(ModelCost::new).collect(),
            length: Mean::default(),
            words: Words::default(),
            accuracy: Accuracy::default(),
        }
    }

    /// Expected joules of answering a request with a model, now.
    pub fn expected(&self, sla: usize, model: usize, context: &Context) -> f64 {
        let known = &self.models[model];
        let output = self.length(sla, model, context);
        let prompt = prompt(context, model) * (1.0 - known.cached_share());
        known.law(&terms(prompt, output, company(context, model)), self.unit())
    }

    /// Joules of an answer whose tokens are known, as the law has it.
    pub fn given(&self, model: usize, context: &Context, bill: &Bill) -> f64 {
        self.models[model].law(&bill.terms(company(context, model)), self.unit())
    }

    /// Expected tokens of a model's answer to a request.
    pub fn length(&self, sla: usize, model: usize, context: &Context) -> f64 {
        self.models[model]
            .lengths
            .expected(&self.words, &self.length, sla, context)
    }

    /// Mean measured joules of a model's answers of late; before the first, the guess for a typical request.
    pub fn mean(&self, model: usize) -> f64 {
        let known = &self.models[model];
        let guess = || dot(&known.prior(), &TYPICAL) * self.unit();
        known.recent.value().unwrap_or_else(guess)
    }

    /// Measured answers of a model.
    pub fn measured(&self, model: usize) -> u64 {
        self.models[model].measured
    }

    /// Takes in a finished answer; `expected`: the joules that the decision expected of it.
    pub fn learn(&mut self, sla: usize, model: usize, context: &Context, bill: &Bill, expected: f64) {
        let expected_tokens = self.length(sla, model, context);
        let lawful = self.given(model, context, bill);
        let terms = bill.terms(company(context, model));
        let known = &mut self.models[model];
        if known.measured > 0 {
            let case = Case {
                expected: Joules(expected),
                lawful: Joules(lawful),
                joules: Joules(bill.joules),
                expected_tokens,
                tokens: terms[2],
            };
            known.accuracy.add(&case);
            self.accuracy.add(&case);
            known.correct(expected, bill.joules);
        }
        known.measured += 1;
        known.joules += bill.joules;
        known.by_size += dot(&known.prior(), &terms);
        known.recent.add(bill.joules);
        known.prompt.add(f64::from(bill.prompt));
        known.cached.add(f64::from(bill.cached.min(bill.prompt)));
        let (words, zoo) = (&mut self.words, &mut self.length);
        known.lengths.learn(words, zoo, sla, context, bill.output);
        let unit = self.unit();
        self.models[model].fit(&terms, bill.joules, unit);
    }

    /// How many times dearer the measured models are than their sizes say (geometric mean): what an
    /// unmeasured model's first guess is multiplied by.
    fn unit(&self) -> f64 {
        let ratios = self
            .models
            .iter()
            .filter(|m| m.joules > 0.0 && m.by_size > 0.0)
            .map(|m| (m.joules / m.by_size).ln());
        let (count, sum) = ratios.fold((0.0, 0.0), |(count, sum), ratio| (count + 1.0, sum + ratio));
        if count == 0.0 { 1.0 } else { f64::exp(sum / count) }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.models.len() == models && self.models.iter().all(|m| m.lengths.fits(slas))
    }

    pub fn remap(&mut self, map: &Remap, models: &[ModelInfo]) {
        self.models = map.models(&self.models, |new| ModelCost::new(&models[new]));
        for model in &mut self.models {
            model.lengths.remap(map);
        }
    }

    /// What is known of each model's cost, and how far expectations were off over all models.
    pub fn report(&self, names: &[ModelInfo]) -> CostReport {
        let one = |(place, known): (usize, &ModelCost)| {
            let decided = known.accuracy.decided();
            let [prompt_token, request, output_token, shared_step] = known.coefficients;
            let report = ModelCostReport {
                measured: known.measured,
                median_error: decided.map(|errors| errors.median_error),
                bias: decided.map(|errors| errors.bias),
                mean_joules: Joules(self.mean(place)),
                given_length: known.accuracy.given_length(),
                since_start: known.accuracy.since_start(),
                correction: known.correction.exp(),
                cached_share: known.cached_share(),
                length: LengthReport {
                    mean: known.lengths.mean.value(),
                    errors: known.accuracy.length(),
                },
                law: LawReport {
                    prompt_token: Joules(prompt_token),
                    request: Joules(request),
                    output_token: Joules(output_token),
                    shared_step: Joules(shared_step),
                },
            };
            (names[place].name.clone(), report)
        };
        CostReport {
            overall: self.accuracy.decided(),
            given_length: self.accuracy.given_length(),
            since_start: self.accuracy.since_start(),
            models: self.models.iter().enumerate().map(one).collect(),
        }
    }
}

fn prompt(context: &Context, model: usize) -> f64 {
    let tokens = context.prompt_tokens.get(model).or(context.prompt_tokens.last());
    f64::from(tokens.copied().unwrap_or(0))
}

fn company(context: &Context, model: usize) -> f64 {
    f64::from(context.company.get(model).copied().unwrap_or(0))
}

fn terms(prompt: f64, output: f64, company: f64) -> [f64; TERMS] {
    [prompt, 1.0, output, output / (1.0 + company)]
}

/// The size that errors are measured relative to.
fn scale(terms: &[f64; TERMS]) -> f64 {
    8.0 + 0.2 * terms[0] + terms[2]
}

fn dot(one: &[f64; TERMS], two: &[f64; TERMS]) -> f64 {
    one.iter().zip(two).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;

    fn zoo() -> Vec<ModelInfo> {
        [("small", 1_000), ("large", 16_000)]
            .map(|(n, p)| ModelInfo {
                name: n.into(),
                parameters: p,
            })
            .into()
    }

    fn context(prompt: u32, company: u32) -> Context {
        Context {
            prompt_tokens: vec![prompt],
            company: vec![company; 2],
            max_tokens: 256,
            ..Context::default()
        }
    }

    #[test]
    fn learns_linear_joules_and_carries_the_unit_over() {
        let mut costs = CostModel::new(&zoo());
        let ratio = costs.expected(0, 1, &context(50, 0)) / costs.expected(0, 0, &context(50, 0));
        assert!((ratio - 16.0).abs() < 1e-9);
        let mut draw = Draw::new(1, 0);
        for _ in 0..400 {
            let (prompt, output, company) = (
                draw.below(200) as u32,
                1 + draw.below(90) as u32,
                draw.below(8) as u32,
            );
            let truth =
                0.01 * f64::from(prompt) + 0.5 + f64::from(output) * (0.02 + 0.1 / f64::from(1 + company));
            let bill = Bill {
                prompt,
                cached: 0,
                output,
                joules: truth * (0.95 + 0.1 * draw.uniform()),
            };
            let (context, model) = (context(prompt, company), 0);
            let expected = costs.expected(0, model, &context);
            costs.learn(0, model, &context, &bill, expected);
        }
        let length = costs.length(0, 0, &context(100, 0));
        for company in [0, 7] {
            let truth = 1.0 + 0.5 + length * (0.02 + 0.1 / f64::from(1 + company));
            let expected = costs.expected(0, 0, &context(100, company));
            assert!(
                (expected / truth - 1.0).abs() < 0.05,
                "{company}: {expected} against {truth}"
            );
        }
        assert!(costs.expected(0, 1, &context(50, 0)) > 5.0 * costs.expected(0, 0, &context(50, 0)));
        assert!(
            costs.mean(1) > 1.0,
            "the unmeasured model's guess is in measured joules"
        );
    }

    #[test]
    fn what_the_law_cannot_say_is_corrected_on_average() {
        let mut costs = CostModel::new(&zoo());
        let (mut draw, context) = (Draw::new(2, 0), context(20, 0));
        for _ in 0..2_000 {
            // Joules grow with the square of the length: relative errors make the law too low for the long.
            let output = 1 + (200.0 * draw.uniform().powi(3)) as u32;
            let bill = Bill {
                prompt: 20,
                cached: 0,
                output,
                joules: 0.01 * f64::from(output) * f64::from(output),
            };
            let expected = costs.expected(0, 0, &context);
            costs.learn(0, 0, &context, &bill, expected);
        }
        let (_, report) = costs.report(&zoo()).models.remove(0);
        assert!(report.correction > 1.05, "{report:?}");
        assert!(report.bias.unwrap().abs() < 0.06, "{report:?}");
    }

    #[test]
    fn one_answer_that_the_meter_got_wrong_moves_little() {
        let mut costs = CostModel::new(&zoo());
        let context = context(20, 0);
        let mut learn = |joules: f64| {
            let bill = Bill {
                prompt: 20,
                cached: 0,
                output: 30,
                joules,
            };
            let expected = costs.expected(0, 0, &context);
            costs.learn(0, 0, &context, &bill, expected);
            costs.expected(0, 0, &context)
        };
        let before = (0..100).map(|_| learn(1.0)).last().unwrap();
        let after = learn(100.0);
        assert!(after / before < 1.1, "{before} then {after}");
    }

    #[test]
    fn a_state_of_an_earlier_build_still_loads() {
        let bill = Bill {
            prompt: 20,
            cached: 0,
            output: 30,
            joules: 2.0,
        };
        let old = r#"{"models": [
            {"parameters": 1000.0, "gram": [[1.0,0.0,0.0,0.0],[0.0,1.0,0.0,0.0],[0.0,0.0,1.0,0.0],[0.0,0.0,0.0,1.0]],
             "pull": [0.1,0.1,0.1,0.1], "coefficients": [0.1,0.1,0.1,0.1], "measured": 9, "joules": 9.0,
             "by_size": 1.0, "recent": {"count": 9.0, "sum": 9.0}, "length": {"count": 9.0, "sum": 90.0},
             "by_sla": [{"count": 9.0, "sum": 90.0}], "by_cluster": []}]}"#;
        let mut old: CostModel = serde_json::from_str(old).unwrap();
        assert!(old.fits(1, 1));
        assert_eq!((old.measured(0), old.mean(0)), (9, 1.0));
        let expected = old.expected(0, 0, &context(20, 0));
        old.learn(0, 0, &context(20, 0), &bill, expected);
        assert_eq!(old.report(&zoo()).overall.unwrap().answers, 1);
    }
}
