//! Which predictor may speak: a finer one only while it beats the coarser one in prequential log loss.
//!
//! Every label is predicted by every stage before any of them learns from it (Dawid's prequential principle).
//! A stage is admitted when its mean gain over the stage that would speak otherwise exceeds `ENTER`
//! standard errors, and stays while the mean gain is positive; means run over the last `MEMORY` labels or
//! so, so a stage that stops helping leaves.

use serde::{Deserialize, Serialize};

use super::event::Stage;

const MEMORY: f64 = 200.0;
const FEWEST: f64 = 30.0;
const ENTER: f64 = 1.5;

/// The stages that every text can be read by, from coarse to fine. [`Stage::Embedding`] follows for texts that were
/// embedded.
pub const STAGES: [Stage; 4] = [Stage::BaseRates, Stage::Clusters, Stage::Topics, Stage::Head];

/// The gain of one stage over a coarser one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Duel {
    count: f64,
    mean: f64,
    square: f64,
}

impl Duel {
    fn add(&mut self, gain: f64) {
        self.count = (self.count + 1.0).min(MEMORY);
        self.mean += (gain - self.mean) / self.count;
        self.square += (gain * gain - self.square) / self.count;
    }

    fn won(&self, holder: bool) -> bool {
        let error = ((self.square - self.mean * self.mean).max(0.0) / self.count.max(1.0)).sqrt();
        self.count >= FEWEST && self.mean > if holder { 0.0 } else { ENTER * error }
    }
}

/// The running comparison of the stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Of every stage after the first over each of those before it, in the order of [`STAGES`].
    #[serde(default)]
    over: [[Duel; STAGES.len()]; STAGES.len()],
    /// Of embeddings over each of [`STAGES`].
    #[serde(default)]
    embedding_over: [Duel; STAGES.len()],
    /// Who speaks of a text that was not embedded.
    speaks: Stage,
    #[serde(default)]
    embedding_speaks: bool,
}

impl Gate {
    /// Who speaks of a text, `embedded` or not.
    pub fn speaks(&self, embedded: bool) -> Stage {
        if embedded && self.embedding_speaks {
            Stage::Embedding
        } else {
            self.speaks
        }
    }

    /// The embeddings are another source's from now on: what was known of their worth is void.
    pub fn forget_embeddings(&mut self) {
        self.embedding_over = Default::default();
        self.embedding_speaks = false;
    }

    /// Takes what each stage (in the order of [`STAGES`], then the embedding's) predicted for a label it had not
    /// learnt from.
    pub fn label(&mut self, predicted: [f64; STAGES.len()], embedding: Option<f64>, satisfied: f64) {
        let losses = predicted.map(|p| log_loss(p, satisfied));
        for finer in 1..STAGES.len() {
            for coarser in 0..finer {
                self.over[finer][coarser].add(losses[coarser] - losses[finer]);
            }
        }
        let mut speaks = 0;
        for (finer, stage) in STAGES.iter().enumerate().skip(1) {
            if self.over[finer][speaks].won(self.speaks == *stage) {
                speaks = finer;
            }
        }
        self.speaks = STAGES[speaks];
        if let Some(embedding) = embedding.map(|p| log_loss(p, satisfied)) {
            for (duel, loss) in self.embedding_over.iter_mut().zip(losses) {
                duel.add(loss - embedding);
            }
        }
        self.embedding_speaks = self.embedding_over[speaks].won(self.embedding_speaks);
    }
}

/// Cross-entropy in nats; `satisfied` may lie between 0 and 1.
pub fn log_loss(predicted: f64, satisfied: f64) -> f64 {
    let p = predicted.clamp(1e-3, 1.0 - 1e-3);
    -(satisfied * p.ln() + (1.0 - satisfied) * (1.0 - p).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;

    #[test]
    fn opens_for_knowledge_and_shuts_on_noise() {
        let mut gate = Gate::default();
        let mut draw = Draw::new(3, 0);
        for _ in 0..200 {
            let truth = f64::from(draw.uniform() < 0.5);
            gate.label([0.5, 0.5, 0.5, 0.2 + 0.6 * truth], None, truth);
        }
        assert_eq!(gate.speaks(true), Stage::Head);
        for _ in 0..1500 {
            let truth = f64::from(draw.uniform() < 0.5);
            gate.label([0.5, 0.5, 0.5, 0.2 + 0.6 * draw.uniform()], None, truth);
        }
        assert_eq!(gate.speaks(true), Stage::BaseRates);
    }
    #[test]
    fn an_embedding_must_beat_the_stage_that_speaks() {
        let mut gate = Gate::default();
        let mut draw = Draw::new(4, 0);
        let mut labels = |gate: &mut Gate, count, head: f64, embedding: f64| {
            for _ in 0..count {
                let truth = f64::from(draw.uniform() < 0.5);
                let said = |skill: f64| 0.5 + skill * (truth - 0.5);
                gate.label([0.5, 0.5, 0.5, said(head)], Some(said(embedding)), truth);
            }
        };
        labels(&mut gate, 200, 0.0, 0.4);
        assert_eq!(
            (gate.speaks(true), gate.speaks(false)),
            (Stage::Embedding, Stage::BaseRates)
        );
        labels(&mut gate, 600, 0.8, 0.4);
        assert_eq!(
            (gate.speaks(true), gate.speaks(false)),
            (Stage::Head, Stage::Head)
        );
        labels(&mut gate, 600, 0.4, 0.8);
        assert_eq!(
            (gate.speaks(true), gate.speaks(false)),
            (Stage::Embedding, Stage::Head)
        );
        gate.forget_embeddings();
        assert_eq!(gate.speaks(true), Stage::Head);
    }

    #[test]
    fn a_gate_of_an_earlier_build_still_loads() {
        let text = serde_json::to_string(&Gate::default()).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.remove("over");
        fields.remove("embedding_over");
        fields.remove("embedding_speaks");
        assert_eq!(serde_json::from_value::<Gate>(value).unwrap(), Gate::default());
    }
}
