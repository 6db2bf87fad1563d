//! How many parameters a shape makes.

use super::{DecoderConfig, FeedConfig, NormPlaces, QueryKeyNorm};

/// A model's parameters by where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The table of embeddings, which a tied head shares.
    pub embedding: u64,
    /// A head of its own; 0 for a tied one.
    pub head: u64,
    /// Matrices of all layers.
    pub matrices: u64,
    /// Norms and biases.
    pub vectors: u64,
}

impl Parameters {
    pub fn all(self) -> u64 {
        self.embedding + self.head + self.matrices + self.vectors
    }
}

impl DecoderConfig {
    pub fn parameters(&self) -> Parameters {
        let size = |n: usize| n as u64;
        let (hidden, table) = (size(self.hidden), size(self.vocabulary) * size(self.hidden));
        let heads = self.heads;
        let (fused, query) = (size(heads.fused_width()), size(heads.query_width()));
        let mut matrices = 0;
        let mut vectors = hidden;
        for layer in &self.layers {
            matrices += hidden * (fused + query);
            vectors += match self.norms {
                NormPlaces::Before | NormPlaces::After => 2 * hidden,
                NormPlaces::Around => 4 * hidden,
            };
            vectors += match self.query_key_norm {
                QueryKeyNorm::None => 0,
                QueryKeyNorm::PerHead => 2 * size(heads.dim),
                QueryKeyNorm::Whole => query + size(heads.kv_width()),
            };
            if self.biases.query_key_value {
                vectors += fused;
            }
            if self.biases.output {
                vectors += hidden;
            }
            match layer.feed {
                FeedConfig::Dense { inner } => {
                    matrices += 3 * hidden * size(inner);
                    if self.biases.feed {
                        vectors += 2 * size(inner) + hidden;
                    }
                }
                FeedConfig::Experts { count, inner, .. } => {
                    matrices += hidden * size(count) + 3 * hidden * size(inner) * size(count);
                }
            }
        }
        Parameters {
            embedding: table,
            head: if self.tied_head { 0 } else { table },
            matrices,
            vectors,
        }
    }
}
