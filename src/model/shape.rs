//! What the server must know of a model's shape, whoever decodes it.

use serde_json::Value;

use super::ModelError;
use super::config::{DecoderConfig, Fields};

#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub vocabulary: usize,
    pub max_positions: usize,
    pub end_tokens: Vec<u32>,
    /// Numbers one token leaves in the cache: keys and values over all layers.
    pub kv_values_per_token: usize,
}

impl Shape {
    pub fn of(config: &DecoderConfig) -> Self {
        Self {
            vocabulary: config.vocabulary,
            max_positions: config.max_positions,
            end_tokens: config.end_tokens.clone(),
            kv_values_per_token: 2 * config.layers.len() * config.heads.kv * config.heads.dim,
        }
    }

    /// Of a config that the packed decoder does not know, by the names that all of transformers' configs share.
    pub fn parse(place: &str, json: &Value) -> Result<Self, ModelError> {
        let fields = Fields::new(place, json);
        let heads = fields.size("num_attention_heads")?;
        let kv_heads = fields.size_or("num_key_value_heads", heads)?;
        let head_dim = fields.size_or("head_dim", fields.size("hidden_size")? / heads)?;
        let layers = fields.size("num_hidden_layers")?;
        Ok(Self {
            vocabulary: fields.size("vocab_size")?,
            max_positions: fields.size("max_position_embeddings")?,
            end_tokens: fields.token_ids("eos_token_id").unwrap_or_default(),
            kv_values_per_token: [2, layers, kv_heads, head_dim]
                .into_iter()
                .fold(1, usize::saturating_mul),
        })
    }
}
