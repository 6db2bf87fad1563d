//! The learned heads over embeddings: one per model, on numbers brought to a common scale, with a calibrated output.
//!
//! A head says how far an embedding moves a model's chance from what the text's words say (`offset`), so it can only
//! add knowledge; [`super::gate`] lets it speak once it does. Its logit is moderated by its own uncertainty (MacKay,
//! "The evidence framework applied to classification networks", 1992) and then calibrated.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::calibration::Calibration;
use super::embedding::{Embedding, WIDTH};
use super::logistic::Logit;
use super::newton::Newton;

/// Variance of what the embedding of a wholly unseen text may add to the logit. On the demo zoo's questions 0.5 to 2
/// predict alike and 8 is worse.
const PRIOR: f64 = 1.0;
/// Texts after which the scale of an embedding's numbers moves no faster.
const SCALE_MEMORY: f64 = 1000.0;
/// Numbers lie within this many standard deviations; encoders have a few that run away.
const FURTHEST: f64 = 4.0;

/// Mean and variance of every number of an embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    texts: f64,
    #[serde(with = "super::bits::doubles")]
    mean: Vec<f64>,
    #[serde(with = "super::bits::doubles")]
    variance: Vec<f64>,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            texts: 0.0,
            mean: vec![0.0; WIDTH],
            variance: vec![0.0; WIDTH],
        }
    }
}

impl Scale {
    fn saw(&mut self, values: &[f32]) {
        self.texts = (self.texts + 1.0).min(SCALE_MEMORY);
        let step = 1.0 / self.texts;
        for ((mean, variance), value) in self.mean.iter_mut().zip(&mut self.variance).zip(values) {
            let off = f64::from(*value) - *mean;
            *mean += step * off;
            *variance += step * (off * off * (1.0 - step) - *variance);
        }
    }

    /// Centred, of unit variance, and all together of about unit length. A number that never varied says nothing.
    fn applied(&self, values: &[f32]) -> Vec<f64> {
        let length = (WIDTH as f64).sqrt();
        let scaled = |((mean, variance), value): ((&f64, &f64), &f32)| {
            if *variance <= 1e-12 * mean * mean + f64::MIN_POSITIVE {
                return 0.0;
            }
            let off = (f64::from(*value) - mean) / variance.sqrt();
            off.clamp(-FURTHEST, FURTHEST) / length
        };
        self.mean
            .iter()
            .zip(&self.variance)
            .zip(values)
            .map(scaled)
            .collect()
    }
}

/// What the embeddings of one source have taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    source: String,
    scale: Scale,
    heads: Vec<Newton>,
    line: Calibration,
}

fn head() -> Newton {
    Newton::new(vec![0.0; WIDTH], PRIOR)
}

impl Dense {
    pub fn new(source: &str, models: usize) -> Self {
        Self {
            source: source.to_owned(),
            scale: Scale::default(),
            heads: vec![head(); models],
            line: Calibration::default(),
        }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The numbers that the heads read, of an embedding of their source.
    fn read(&self, embedding: Option<&Embedding>) -> Option<Vec<f64>> {
        embedding
            .filter(|e| e.source == self.source)
            .map(|e| self.scale.applied(&e.values))
    }

    /// Whether the heads have something to say of a text.
    pub fn reads(&self, embedding: Option<&Embedding>) -> bool {
        embedding.is_some_and(|e| e.source == self.source)
    }

    /// A request came by.
    pub fn saw(&mut self, embedding: Option<&Embedding>) {
        if let Some(embedding) = embedding.filter(|e| e.source == self.source) {
            self.scale.saw(&embedding.values);
        }
    }

    /// `offset` is the logit that the text has without its embedding. `None` for what was not embedded by this source.
    pub fn predict(&self, model: usize, embedding: Option<&Embedding>, offset: f64) -> Option<Logit> {
        let x = self.read(embedding)?;
        Some(self.line.of(self.heads[model].predict(&x, offset).moderated()))
    }

    /// One step towards `satisfied` (0 to 1); the line learns from what the head said before it learns itself.
    pub fn learn(
        &mut self,
        model: usize,
        embedding: Option<&Embedding>,
        offset: f64,
        satisfied: f64,
        weight: f64,
    ) {
        let Some(x) = self.read(embedding) else { return };
        let said = self.heads[model].predict(&x, offset).moderated();
        self.line.learn(said, satisfied, weight);
        self.heads[model].learn(&x, offset, satisfied, weight);
    }

    /// A model has changed.
    pub fn doubt(&mut self, model: usize) {
        self.heads[model].doubt();
        self.line.doubt();
    }

    pub fn fits(&self, models: usize) -> bool {
        self.heads.len() == models
            && self.heads.iter().all(|head| head.fits(WIDTH))
            && self.line.fits()
            && self.scale.mean.len() == WIDTH
            && self.scale.variance.len() == WIDTH
    }

    pub fn remap(&mut self, map: &Remap) {
        self.heads = map.models(&self.heads, |_| head());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use crate::router::logistic::{logit, sigmoid};

    /// A text is one of eight kinds, far apart in a 96-dimensional space, plus noise of the same size.
    fn text(kind: usize, draw: &mut Draw) -> Embedding {
        let vector: Vec<f32> = (0..96)
            .map(|n| {
                let centre = Draw::new(kind as u64, n).uniform() as f32 - 0.5;
                5.0 + centre + (draw.uniform() as f32 - 0.5)
            })
            .collect();
        Embedding::of("test", &vector).unwrap()
    }

    #[test]
    fn labels_tell_eight_kinds_apart_and_what_it_says_is_calibrated() {
        let chance = |kind: usize| if kind.is_multiple_of(2) { 0.9 } else { 0.15 };
        let mut dense = Dense::new("test", 1);
        let mut draw = Draw::new(5, 1);
        let mut bins = [(0.0, 0.0, 0.0); 10];
        let (mut late, mut knows) = (0.0, 0.0);
        let labels = 6000;
        for at in 0..labels {
            let kind = draw.below(8);
            let embedding = text(kind, &mut draw);
            dense.saw(Some(&embedding));
            let said = dense.predict(0, Some(&embedding), logit(0.5)).unwrap();
            let p = sigmoid(said.mean);
            let happy = f64::from(draw.uniform() < chance(kind));
            if at >= 200 {
                let bin = &mut bins[((p * 10.0) as usize).min(9)];
                *bin = (bin.0 + 1.0, bin.1 + p, bin.2 + happy);
                late += 1.0;
                knows += f64::from((p > 0.5) == (chance(kind) > 0.5));
            }
            dense.learn(0, Some(&embedding), logit(0.5), happy, 1.0);
        }
        assert!(knows / late > 0.9, "{}", knows / late);
        let off: f64 = bins.iter().map(|(_, said, was)| (said - was).abs()).sum::<f64>() / late;
        // Eight kinds of two chances are not linear in the logit: a line takes the boasting out, not the bend.
        assert!(off < 0.08, "calibration error {off}: {bins:?}");
    }

    #[test]
    fn another_source_is_not_read() {
        let mut dense = Dense::new("hidden:a", 2);
        let other = Embedding::of("hidden:b", &[1.0; 8]).unwrap();
        dense.saw(Some(&other));
        dense.learn(0, Some(&other), 0.0, 1.0, 1.0);
        assert_eq!(dense, Dense::new("hidden:a", 2));
        assert_eq!(dense.predict(0, Some(&other), 0.0), None);
        assert_eq!(dense.predict(0, None, 0.0), None);
    }

    #[test]
    fn heads_survive_text() {
        let mut dense = Dense::new("test", 2);
        let mut draw = Draw::new(9, 1);
        for n in 0..50 {
            let embedding = text(n % 8, &mut draw);
            dense.saw(Some(&embedding));
            dense.learn(n % 2, Some(&embedding), 0.3, f64::from(n % 3 == 0), 0.5);
        }
        let text = serde_json::to_string(&dense).unwrap();
        assert_eq!(serde_json::from_str::<Dense>(&text).unwrap(), dense);
    }
}
