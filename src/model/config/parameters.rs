//! How many parameters a decoder has, by its config alone.

use super::{DecoderConfig, FeedConfig, LayerConfig, NormPlaces, QueryKeyNorm};

impl DecoderConfig {
    /// All of them; a head that is the embedding itself counts once.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied_head { 1 } else { 2 };
        let last_norm = self.hidden;
        let outside = tables * self.vocabulary * self.hidden + last_norm;
        let blocks: u64 = self.layers.iter().map(|layer| self.block(layer)).sum();
        outside as u64 + blocks
    }

    fn block(&self, layer: &LayerConfig) -> u64 {
        let norms = match self.norms {
            NormPlaces::Before | NormPlaces::After => 2,
            NormPlaces::Around => 4,
        };
        (self.attention() + norms * self.hidden) as u64 + self.feed(&layer.feed)
    }

    fn attention(&self) -> usize {
        let (query, kv) = (self.heads.query * self.heads.dim, self.heads.kv * self.heads.dim);
        let matrices = self.hidden * (2 * query + 2 * kv);
        let norms = match self.query_key_norm {
            QueryKeyNorm::None => 0,
            QueryKeyNorm::PerHead => 2 * self.heads.dim,
            QueryKeyNorm::Whole => query + kv,
        };
        let biases = usize::from(self.biases.query_key_value) * (query + 2 * kv)
            + usize::from(self.biases.output) * self.hidden;
        matrices + norms + biases
    }

    fn feed(&self, feed: &FeedConfig) -> u64 {
        let gated = |inner: usize| (3 * self.hidden * inner) as u64;
        match *feed {
            FeedConfig::Dense { inner } => {
                gated(inner) + usize::from(self.biases.feed) as u64 * (2 * inner + self.hidden) as u64
            }
            FeedConfig::Experts { count, inner, .. } => {
                let router = (count * self.hidden) as u64;
                router + count as u64 * gated(inner)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// transformers' own tensors of tiny models of every family.
    #[test]
    fn they_are_those_of_transformers() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/arch");
        let mut counted = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let fixture: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let place = path.display().to_string();
            let Ok(config) = DecoderConfig::parse(&place, &fixture["config"]) else {
                continue;
            };
            let size = |tensor: &Value| {
                let shape = tensor["shape"].as_array().unwrap().iter();
                shape.map(|n| n.as_u64().unwrap()).product::<u64>()
            };
            let tensors: u64 = fixture["tensors"].as_array().unwrap().iter().map(size).sum();
            assert_eq!(config.parameters(), tensors, "{place}");
            counted += 1;
        }
        assert!(counted > 40, "{counted} families' fixtures were read");
    }
}
