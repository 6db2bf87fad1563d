//! What an answer will cost in joules, learned from finished ones.
//!
//! Per model, joules = a·prompt + b + c·output + d·output/(1 + company), all coefficients ≥ 0: the last term
//! is the part of a decode step that requests running beside it share, so joining a running batch is dear
//! only in c. Fitted by non-negative least squares on relative errors, with forgetting (`FORGET`) and a
//! weak pull towards the size of the model, which is all that is known before anything is measured. The
//! output length is a running mean per model, service level and kind of request.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::config::ModelInfo;
use super::event::Context;
use super::nnls::{self, TERMS};

/// Weight that an observation keeps when the next one comes.
const FORGET: f64 = 0.997;
/// A request of middling size, for scaling the pull towards the prior.
const TYPICAL: [f64; TERMS] = [64.0, 1.0, 32.0, 32.0];
/// The prior is worth this many observations.
const PULL: f64 = 0.05;
/// Joules per parameter and token assumed until something is measured; only ratios between models matter
/// then.
const FIRST_GUESS: f64 = 1e-10;
const FIRST_LENGTH: f64 = 64.0;
const LENGTH_MEMORY: f64 = 1000.0;
const LENGTH_SHRINKAGE: f64 = 5.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    count: f64,
    sum: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        if self.count >= LENGTH_MEMORY {
            self.sum -= self.sum / self.count;
            self.count -= 1.0;
        }
        self.sum += value;
        self.count += 1.0;
    }

    fn shrunk(&self, towards: f64) -> f64 {
        (self.sum + LENGTH_SHRINKAGE * towards) / (self.count + LENGTH_SHRINKAGE)
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
    length: Mean,
    by_sla: Vec<Mean>,
    by_cluster: Vec<Mean>,
}

impl ModelCost {
    fn new(model: &ModelInfo, slas: usize) -> Self {
        Self {
            parameters: model.parameters.max(1) as f64,
            gram: [[0.0; TERMS]; TERMS],
            pull: [0.0; TERMS],
            coefficients: [0.0; TERMS],
            measured: 0,
            joules: 0.0,
            by_size: 0.0,
            recent: Mean::default(),
            length: Mean::default(),
            by_sla: vec![Mean::default(); slas],
            by_cluster: vec![],
        }
    }

    fn prior(&self) -> [f64; TERMS] {
        let token = self.parameters * FIRST_GUESS;
        [0.2 * token, 0.0, 0.5 * token, 0.5 * token]
    }

    fn length(&self, sla: usize, context: &Context) -> f64 {
        let level = self.by_sla[sla].shrunk(self.length.shrunk(FIRST_LENGTH));
        let kind = context.cluster.and_then(|c| self.by_cluster.get(usize::from(c)));
        kind.map_or(level, |kind| kind.shrunk(level))
            .min(f64::from(context.max_tokens))
    }

    fn fit(&mut self, unit: f64) {
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
}

impl CostModel {
    pub fn new(models: &[ModelInfo], slas: usize) -> Self {
        Self {
            models: models.iter().map(|m| ModelCost::new(m, slas)).collect(),
        }
    }

    /// Expected joules of answering a request with a model, now.
    pub fn expected(&self, sla: usize, model: usize, context: &Context) -> f64 {
        let known = &self.models[model];
        let output = known.length(sla, context);
        let terms = terms(tokens(context, model), output, company(context, model));
        let joules = if known.measured == 0 {
            dot(&known.prior(), &terms) * self.unit()
        } else {
            dot(&known.coefficients, &terms)
        };
        joules.max(f64::MIN_POSITIVE)
    }

    /// Mean measured joules of a model's answers of late; before the first, the guess for a typical request.
    pub fn mean(&self, model: usize) -> f64 {
        let known = &self.models[model];
        if known.recent.count > 0.0 {
            return known.recent.sum / known.recent.count;
        }
        dot(&known.prior(), &TYPICAL) * self.unit()
    }

    /// Measured answers of a model.
    pub fn measured(&self, model: usize) -> u64 {
        self.models[model].measured
    }

    pub fn learn(
        &mut self,
        sla: usize,
        model: usize,
        context: &Context,
        prompt: u32,
        output: u32,
        joules: f64,
    ) {
        let known = &mut self.models[model];
        let terms = terms(f64::from(prompt), f64::from(output), company(context, model));
        known.measured += 1;
        known.joules += joules;
        known.by_size += dot(&known.prior(), &terms);
        known.recent.add(joules);
        known.length.add(f64::from(output));
        known.by_sla[sla].add(f64::from(output));
        if let Some(cluster) = context.cluster {
            let place = usize::from(cluster);
            if known.by_cluster.len() <= place {
                known.by_cluster.resize(place + 1, Mean::default());
            }
            known.by_cluster[place].add(f64::from(output));
        }
        let weight = scale(&terms).powi(-2);
        for row in 0..TERMS {
            for column in 0..TERMS {
                let entry = &mut known.gram[row][column];
                *entry = FORGET * *entry + weight * terms[row] * terms[column];
            }
            known.pull[row] = FORGET * known.pull[row] + weight * terms[row] * joules;
        }
        let unit = self.unit();
        self.models[model].fit(unit);
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
        self.models.len() == models && self.models.iter().all(|m| m.by_sla.len() == slas)
    }

    pub fn remap(&mut self, map: &Remap, models: &[ModelInfo], slas: usize) {
        self.models = map.models(&self.models, |new| ModelCost::new(&models[new], slas));
        for model in &mut self.models {
            model.by_sla = map.slas(&model.by_sla, |_| Mean::default());
        }
    }
}

fn tokens(context: &Context, model: usize) -> f64 {
    f64::from(
        context
            .prompt_tokens
            .get(model)
            .or(context.prompt_tokens.last())
            .copied()
            .unwrap_or(0),
    )
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
        let mut costs = CostModel::new(&zoo(), 1);
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
            costs.learn(
                0,
                0,
                &context(prompt, company),
                prompt,
                output,
                truth * (0.95 + 0.1 * draw.uniform()),
            );
        }
        let length = costs.models[0].length(0, &context(100, 0));
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
}
