//! The paper's predictor: a small network over an embedding, one output a model, trained by stochastic gradient descent.
//!
//! ```text
//! z = W₁x + b₁,  a = ReLU(LayerNorm(z)),  ŝ_m = σ((W₂a + b₂)_m)
//! loss = mean over m of BCE(ŝ_m, s_m) + μ/2·‖θ‖²,   v ← 0.9 v + ∇,  θ ← θ − η v,   ‖∇‖ ≤ 1
//! ```
//!
//! In plain f32, so that the router stays a pure function of its log: no tensor library is asked, whose sums may come in
//! another order next time. Labels come one by one, so each takes a step with its share 1/M of the mean. Dropout, the
//! one part of the paper's head that is missing, would need randomness in learning.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::draw::Draw;
use super::embedding::{Embedding, WIDTH};
use super::logistic::sigmoid;

const HIDDEN: usize = 64;
const MOMENTUM: f32 = 0.9;
/// μ of the paper.
const DECAY: f32 = 0.01;
const MOST_GRADIENT: f32 = 1.0;
const EPSILON: f32 = 1e-5;

/// Where each layer's parameters lie, one after the other; the outputs' rows (weights, then bias) come last.
const BIAS: usize = HIDDEN * WIDTH;
const GAIN: usize = BIAS + HIDDEN;
const SHIFT: usize = GAIN + HIDDEN;
const OUTPUTS: usize = SHIFT + HIDDEN;
const ROW: usize = HIDDEN + 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    /// Whose embeddings it reads.
    source: String,
    models: usize,
    #[serde(with = "super::bits::singles")]
    parameters: Vec<f32>,
    #[serde(with = "super::bits::singles")]
    velocity: Vec<f32>,
}

/// What a forward pass leaves for the way back.
struct Pass {
    input: Vec<f32>,
    /// (z − mean) / deviation.
    normed: Vec<f32>,
    deviation: f32,
    active: Vec<f32>,
}

impl Mlp {
    /// Weights uniform in ±1/√(inputs), as PyTorch starts its linear layers.
    pub fn new(source: &str, models: usize, seed: u64) -> Self {
        let mut draw = Draw::new(seed, 0);
        let mut uniform = |inputs: usize| (2.0 * draw.uniform() - 1.0) as f32 / (inputs as f32).sqrt();
        let mut parameters: Vec<f32> = (0..GAIN).map(|_| uniform(WIDTH)).collect();
        parameters.extend([1.0; HIDDEN]);
        parameters.extend([0.0; HIDDEN]);
        parameters.extend((0..models * ROW).map(|_| uniform(HIDDEN)));
        Self {
            source: source.to_owned(),
            models,
            velocity: vec![0.0; parameters.len()],
            parameters,
        }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn fits(&self, models: usize) -> bool {
        let size = OUTPUTS + models * ROW;
        self.models == models && self.parameters.len() == size && self.velocity.len() == size
    }

    /// Every model's chance of satisfying; `None` for what was not embedded by its source.
    pub fn predict(&self, embedding: Option<&Embedding>) -> Option<Vec<f64>> {
        let pass = self.forward(embedding.filter(|e| e.source == self.source)?);
        let said = |model| sigmoid(f64::from(self.output(model, &pass)));
        Some((0..self.models).map(said).collect())
    }

    /// One step towards `satisfied` (0 to 1) with learning rate `rate`.
    pub fn learn(&mut self, model: usize, embedding: Option<&Embedding>, satisfied: f64, rate: f64) {
        let Some(embedding) = embedding.filter(|e| e.source == self.source) else {
            return;
        };
        let mut gradient = self.gradient(model, embedding, satisfied);
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let scale = MOST_GRADIENT / norm.max(MOST_GRADIENT);
        gradient.iter_mut().for_each(|g| *g *= scale);
        for ((parameter, velocity), gradient) in
            self.parameters.iter_mut().zip(&mut self.velocity).zip(gradient)
        {
            *velocity = MOMENTUM * *velocity + gradient;
            *parameter -= rate as f32 * *velocity;
        }
    }

    fn forward(&self, embedding: &Embedding) -> Pass {
        let input = unit(&embedding.values);
        let mut z = Vec::with_capacity(HIDDEN);
        for (row, bias) in self.parameters[..BIAS]
            .chunks_exact(WIDTH)
            .zip(&self.parameters[BIAS..GAIN])
        {
            z.push(bias + dot(row, &input));
        }
        let mean = z.iter().sum::<f32>() / HIDDEN as f32;
        let variance = z.iter().map(|z| (z - mean) * (z - mean)).sum::<f32>() / HIDDEN as f32;
        let deviation = (variance + EPSILON).sqrt();
        let normed: Vec<f32> = z.iter().map(|z| (z - mean) / deviation).collect();
        let scales = self.parameters[GAIN..SHIFT]
            .iter()
            .zip(&self.parameters[SHIFT..OUTPUTS]);
        let active = normed
            .iter()
            .zip(scales)
            .map(|(n, (gain, shift))| (n * gain + shift).max(0.0))
            .collect();
        Pass {
            input,
            normed,
            deviation,
            active,
        }
    }

    fn output(&self, model: usize, pass: &Pass) -> f32 {
        let row = &self.parameters[OUTPUTS + model * ROW..][..ROW];
        row[HIDDEN] + dot(&row[..HIDDEN], &pass.active)
    }

    /// Of the label's share of the loss.
    fn gradient(&self, model: usize, embedding: &Embedding, satisfied: f64) -> Vec<f32> {
        let share = 1.0 / self.models as f32;
        let pass = self.forward(embedding);
        let error = share * (sigmoid(f64::from(self.output(model, &pass))) - satisfied) as f32;
        let mut gradient: Vec<f32> = self.parameters.iter().map(|p| share * DECAY * p).collect();
        let start = OUTPUTS + model * ROW;
        for (entry, active) in gradient[start..].iter_mut().zip(&pass.active) {
            *entry += error * active;
        }
        gradient[start + HIDDEN] += error;
        // Through ReLU and the scales to the normed values, then through the norm itself.
        let mut back = vec![0.0; HIDDEN];
        for unit in 0..HIDDEN {
            if pass.active[unit] > 0.0 {
                let here = error * self.parameters[start + unit];
                gradient[GAIN + unit] += here * pass.normed[unit];
                gradient[SHIFT + unit] += here;
                back[unit] = here * self.parameters[GAIN + unit];
            }
        }
        let mean = back.iter().sum::<f32>() / HIDDEN as f32;
        let along = dot(&back, &pass.normed) / HIDDEN as f32;
        for unit in 0..HIDDEN {
            let here = (back[unit] - mean - pass.normed[unit] * along) / pass.deviation;
            gradient[BIAS + unit] += here;
            for (entry, input) in gradient[unit * WIDTH..][..WIDTH].iter_mut().zip(&pass.input) {
                *entry += here * input;
            }
        }
        gradient
    }

    pub fn remap(&mut self, map: &Remap, models: usize) {
        let fresh = Self::new(&self.source, models, 0);
        let rows = |of: &[f32]| -> Vec<Vec<f32>> { of[OUTPUTS..].chunks(ROW).map(<[f32]>::to_vec).collect() };
        let moved = |own: &[f32], fresh: &[f32]| -> Vec<f32> {
            let fresh = rows(fresh);
            let kept = map.models(&rows(own), |new| fresh[new].clone());
            own[..OUTPUTS].iter().copied().chain(kept.concat()).collect()
        };
        self.parameters = moved(&self.parameters, &fresh.parameters);
        self.velocity = moved(&self.velocity, &fresh.velocity);
        self.models = models;
    }
}

/// Brought to a root mean square of 1; what is all zeros stays so.
fn unit(values: &[f32]) -> Vec<f32> {
    let norm = (dot(values, values) / WIDTH as f32).sqrt();
    let scale = if norm > 0.0 && norm.is_finite() {
        1.0 / norm
    } else {
        0.0
    };
    values.iter().map(|v| v * scale).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(seed: u64) -> Embedding {
        let mut draw = Draw::new(seed, 7);
        let vector: Vec<f32> = (0..WIDTH).map(|_| draw.uniform() as f32 - 0.5).collect();
        Embedding::of("t", &vector).unwrap()
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mlp = Mlp::new("t", 3, 5);
        let x = embedding(1);
        let gradient = mlp.gradient(1, &x, 0.3);
        let loss = |mlp: &Mlp| {
            let o = f64::from(mlp.output(1, &mlp.forward(&x)));
            let cross = -(0.3 * sigmoid(o).ln() + 0.7 * (1.0 - sigmoid(o)).ln());
            let square: f64 = mlp.parameters.iter().map(|p| f64::from(*p) * f64::from(*p)).sum();
            (cross + 0.5 * f64::from(DECAY) * square) / 3.0
        };
        for place in (0..mlp.parameters.len())
            .step_by(37)
            .chain([BIAS, GAIN + 3, SHIFT + 5, OUTPUTS + ROW])
        {
            let step = 3e-3f32;
            let (mut up, mut down) = (mlp.clone(), mlp.clone());
            up.parameters[place] += step;
            down.parameters[place] -= step;
            let slope = (loss(&up) - loss(&down)) / (2.0 * f64::from(step));
            let off = (slope - f64::from(gradient[place])).abs();
            assert!(
                off < 2e-3 * (1.0 + slope.abs()),
                "{place}: {slope} and {}",
                gradient[place]
            );
        }
    }

    /// Whether two numbers have the same sign: no linear head can tell.
    #[test]
    fn it_learns_what_no_line_can_tell() {
        let mut mlp = Mlp::new("t", 1, 3);
        let mut draw = Draw::new(8, 8);
        let mut sample = || {
            let mut vector = vec![0.0f32; 8];
            vector.iter_mut().for_each(|v| *v = draw.uniform() as f32 - 0.5);
            let same = (vector[0] > 0.0) == (vector[1] > 0.0);
            vector[0] = vector[0].signum();
            vector[1] = vector[1].signum();
            (Embedding::of("t", &vector).unwrap(), f64::from(same))
        };
        for _ in 0..4000 {
            let (x, same) = sample();
            mlp.learn(0, Some(&x), same, 0.05);
        }
        let right = (0..400)
            .filter(|_| {
                let (x, same) = sample();
                (mlp.predict(Some(&x)).unwrap()[0] > 0.5) == (same > 0.5)
            })
            .count();
        assert!(right > 370, "{right} of 400");
    }

    #[test]
    fn networks_survive_text_and_read_their_own_source_only() {
        let mut mlp = Mlp::new("t", 2, 9);
        (0..20).for_each(|n| mlp.learn(n as usize % 2, Some(&embedding(n)), 1.0, 0.05));
        let text = serde_json::to_string(&mlp).unwrap();
        assert_eq!(serde_json::from_str::<Mlp>(&text).unwrap(), mlp);
        let other = Embedding::of("u", &[1.0; 4]).unwrap();
        assert_eq!((mlp.predict(Some(&other)), mlp.predict(None)), (None, None));
        let before = mlp.clone();
        mlp.learn(0, Some(&other), 1.0, 0.05);
        assert_eq!(mlp, before);
    }
}
