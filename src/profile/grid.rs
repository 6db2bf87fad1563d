//! What is to be measured: every model at every batch size, prompt length and answer length.

use serde::{Deserialize, Serialize};

use crate::engine::ModelFacts;

/// One setting of one model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell {
    pub model: String,
    /// Requests sent at the same moment.
    pub batch: usize,
    pub prompt_tokens: usize,
    pub output_tokens: usize,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, batch {}, {} + {} tokens",
            self.model, self.batch, self.prompt_tokens, self.output_tokens
        )
    }
}

/// The settings every model is measured at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    pub batch: Vec<usize>,
    pub prompt_tokens: Vec<usize>,
    pub output_tokens: Vec<usize>,
}

/// A setting that a model cannot be measured at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    #[serde(flatten)]
    pub cell: Cell,
    pub why: String,
}

/// What a model can hold.
#[derive(Clone, Debug)]
pub struct Room<'a> {
    pub facts: &'a ModelFacts,
    /// Bytes for keys and values on its device.
    pub kv_bytes: u64,
    /// Sequences that run together at most.
    pub max_rows: usize,
}

impl Grid {
    /// All settings, model by model, small before large; apart, those that do not fit. A batch that does not fit the
    /// memory would be preempted and computed again, and its joules would not be those of such a batch.
    pub fn cells(&self, rooms: &[Room]) -> (Vec<Cell>, Vec<Skipped>) {
        let (mut cells, mut skipped) = (Vec::new(), Vec::new());
        for room in rooms {
            for &prompt_tokens in &self.prompt_tokens {
                for &output_tokens in &self.output_tokens {
                    for &batch in &self.batch {
                        let cell = Cell {
                            model: room.facts.name.clone(),
                            batch,
                            prompt_tokens,
                            output_tokens,
                        };
                        match room.lacks(&cell) {
                            None => cells.push(cell),
                            Some(why) => skipped.push(Skipped { cell, why }),
                        }
                    }
                }
            }
        }
        (cells, skipped)
    }
}

impl Room<'_> {
    fn lacks(&self, cell: &Cell) -> Option<String> {
        let length = cell.prompt_tokens + cell.output_tokens;
        if length > self.facts.max_context {
            return Some(format!(
                "{length} tokens are more than its context of {}",
                self.facts.max_context
            ));
        }
        if cell.batch > 1 && !self.facts.batched {
            return Some("it runs one request at a time".to_owned());
        }
        if cell.batch > self.max_rows {
            return Some(format!("at most {} requests run together", self.max_rows));
        }
        let needed = self
            .facts
            .kv_bytes_per_sequence(length)
            .saturating_mul(cell.batch as u64);
        (needed > self.kv_bytes).then(|| {
            format!(
                "its keys and values take {} MiB of the {} MiB there are",
                needed.div_ceil(1 << 20),
                self.kv_bytes >> 20
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sampling;
    use crate::units::{DeviceId, ModelId};

    fn facts(batched: bool) -> ModelFacts {
        ModelFacts {
            id: ModelId(0),
            name: "m".into(),
            architecture: "llama".into(),
            parameters: 1,
            device: DeviceId(0),
            device_name: "cpu".into(),
            dtype: "f32".into(),
            max_context: 160,
            vocabulary: 64,
            weight_bytes: 1,
            kv_bytes_per_token: 1 << 10,
            default_sampling: Sampling::default(),
            end_tokens: vec![],
            has_chat_template: false,
            hidden_width: None,
            batched,
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_with_its_reason() {
        let grid = Grid {
            batch: vec![1, 8, 400],
            prompt_tokens: vec![32, 128],
            output_tokens: vec![32, 64],
        };
        let cells = |facts: &ModelFacts, kv_bytes| {
            let room = Room {
                facts,
                kv_bytes,
                max_rows: 256,
            };
            grid.cells(&[room])
        };
        let batched = facts(true);
        let (fit, skipped) = cells(&batched, 1 << 30);
        assert_eq!((fit.len(), skipped.len()), (6, 6));
        assert!(skipped.iter().any(|s| s.why.contains("context of 160")));
        assert!(skipped.iter().any(|s| s.why.contains("at most 256")));
        // 8 sequences of 96 tokens take 768 KiB, of 160 tokens 1280 KiB.
        let (fit, skipped) = cells(&batched, 1 << 20);
        assert!(
            fit.iter()
                .all(|c| c.batch == 1 || c.prompt_tokens + c.output_tokens < 160)
        );
        assert!(
            skipped.iter().any(|s| s.why.contains("2 MiB of the 1 MiB")),
            "{skipped:?}"
        );
        let single = facts(false);
        assert!(cells(&single, 1 << 30).0.iter().all(|c| c.batch == 1));
    }
}
