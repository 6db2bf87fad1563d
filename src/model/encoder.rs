//! An encoder that turns a text into one vector: ModernBERT by candle-transformers, the mean of the last layer's states
//! over the tokens.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::modernbert::{Config, ModernBert};
use serde_json::Value;

use super::ModelError;
use super::checkpoint::Checkpoint;
use super::config::{self, Fields};
use super::linear::values;
use super::load::ModelSource;
use super::tokenizer::Tokenizer;

/// Tokens that are read of a text; of a longer one its beginning and its end, half each, where the task is told.
const MOST_TOKENS: usize = 512;
/// Bytes of a text's either end that are tokenised at all.
const MOST_BYTES: usize = 16 << 10;

const SUPPORTED: &str = "ModernBERT from safetensors as an encoder";

pub struct Encoder {
    model: ModernBert,
    tokenizer: Tokenizer,
    width: usize,
    most_tokens: usize,
}

/// What can be known of an encoder before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderInspection {
    pub parameters: u64,
    /// Memory of the weights once loaded on a CPU, as f32.
    pub held_bytes: u64,
    /// Numbers of the vector that a text becomes.
    pub width: usize,
}

/// Reads the config and the heads of the weight files.
///
/// # Errors
/// All that loading would refuse of them.
pub fn inspect_encoder(source: &ModelSource) -> Result<EncoderInspection, ModelError> {
    let checkpoint = Checkpoint::open(source)?;
    let config = read_config(&checkpoint)?;
    let stored = checkpoint.stored()?;
    Ok(EncoderInspection {
        parameters: stored.parameters,
        held_bytes: stored.parameters.saturating_mul(4),
        width: config.hidden_size,
    })
}

impl Encoder {
    /// Loads it as f32 on the CPU. Everything about it is checked here; later only computing can fail.
    pub fn load(source: &ModelSource) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(source)?;
        let config = read_config(&checkpoint)?;
        let tokenizer = checkpoint.tokenizer(config.vocab_size)?;
        let weights = checkpoint.weights()?;
        let tensors = named(weights.all()?);
        // candle takes a missing norm before the attention for one that is not there, as it is not in the first layer.
        for layer in 1..config.num_hidden_layers {
            let name = format!("model.layers.{layer}.attn_norm.weight");
            if !tensors.contains_key(&name) {
                return Err(weights.wrong(format!("{name} is missing")));
            }
        }
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = ModernBert::load(builder, &config).map_err(|e| weights.wrong(e.to_string()))?;
        Ok(Self {
            model,
            tokenizer,
            width: config.hidden_size,
            most_tokens: config.max_position_embeddings,
        })
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vector of a text, `[width]`.
    ///
    /// # Errors
    /// `Compute` for a text without a token, and for what goes wrong in the computation.
    pub fn encode(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let tokens = self
            .tokenizer
            .encode(&ends(text), true)
            .map_err(ModelError::Compute)?;
        let mut ids: Vec<u32> = tokens.iter().map(|t| t.0).collect();
        if ids.len() > self.most_tokens {
            let half = self.most_tokens / 2;
            ids.drain(half..ids.len() - half);
        }
        if ids.is_empty() {
            return Err(ModelError::Compute(
                "a text without tokens has no vector".to_owned(),
            ));
        }
        let count = ids.len();
        let ids = Tensor::from_vec(ids, (1, count), &Device::Cpu)?;
        let mask = Tensor::ones((1, count), DType::U32, &Device::Cpu)?;
        let states = self.model.forward(&ids, &mask)?;
        Ok(values(&states.mean(1)?)?)
    }
}

/// A huge text without its middle.
fn ends(text: &str) -> String {
    if text.len() <= 2 * MOST_BYTES {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(MOST_BYTES);
    let tail = text.ceil_char_boundary(text.len() - MOST_BYTES);
    format!("{} {}", &text[..head], &text[tail..])
}

/// Tensors by the names of `ModernBertForMaskedLM`; the bare model has them without `model.`.
fn named(tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    if tensors.contains_key("model.embeddings.tok_embeddings.weight") {
        return tensors;
    }
    let prefixed = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("model.{name}"), tensor));
    prefixed.collect()
}

fn read_config(checkpoint: &Checkpoint) -> Result<Config, ModelError> {
    let (place, json) = (checkpoint.place(), checkpoint.config()?);
    let refuse = |reason: String| ModelError::Unsupported {
        place: place.clone(),
        reason,
        supported: SUPPORTED,
    };
    let architecture = config::architecture(&json);
    if json["model_type"] != "modernbert" {
        return Err(refuse(format!("its architecture is {architecture}")));
    }
    if matches!(checkpoint, Checkpoint::Gguf { .. }) {
        return Err(refuse("it is a GGUF file".to_owned()));
    }
    for bias in ["attention_bias", "mlp_bias", "norm_bias"] {
        if json[bias] == true {
            return Err(refuse(format!("it has {bias}")));
        }
    }
    if !matches!(json["hidden_activation"].as_str(), None | Some("gelu")) {
        return Err(refuse(format!("its activation is {}", json["hidden_activation"])));
    }
    let fields = Fields::new(&place, &json);
    let layers = fields.size("num_hidden_layers")?;
    let heads = fields.size("num_attention_heads")?;
    let hidden = fields.size("hidden_size")?;
    if !hidden.is_multiple_of(2 * heads) {
        return Err(fields.bad(format!("{hidden} numbers cannot be shared among {heads} heads")));
    }
    let every = fields.size_or("global_attn_every_n_layers", 3)?;
    check_layers(&json, every).map_err(refuse)?;
    let theta = |old: &str, new: &str, default: f64| {
        let nested = json["rope_parameters"][new]["rope_theta"].as_f64();
        json[old].as_f64().or(nested).unwrap_or(default)
    };
    Ok(Config {
        vocab_size: fields.size("vocab_size")?,
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size: fields.size("intermediate_size")?,
        // Only for the table of rotations, which no longer text than this will ask for.
        max_position_embeddings: fields.size("max_position_embeddings")?.min(MOST_TOKENS),
        layer_norm_eps: json["norm_eps"].as_f64().unwrap_or(1e-5),
        pad_token_id: 0,
        global_attn_every_n_layers: every,
        global_rope_theta: theta("global_rope_theta", "full_attention", 160_000.0),
        local_attention: fields.size_or("local_attention", 128)?,
        local_rope_theta: theta("local_rope_theta", "sliding_attention", 10_000.0),
        classifier_config: None,
    })
}

/// Where the config lists its layers, they must alternate as `every` says.
fn check_layers(json: &Value, every: usize) -> Result<(), String> {
    let Some(kinds) = json["layer_types"].as_array() else {
        return Ok(());
    };
    let expected = |at: usize| {
        if at.is_multiple_of(every) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let strange = (0..)
        .zip(kinds)
        .find(|(at, kind)| kind.as_str() != Some(expected(*at)));
    match strange {
        Some((at, kind)) => Err(format!(
            "its layer {at} is {kind} where every {every}th is to be full"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_text_keeps_its_ends() {
        let text = format!("begin {} end", "é".repeat(1 << 20));
        let kept = ends(&text);
        assert!(kept.starts_with("begin ") && kept.ends_with(" end") && kept.len() <= 2 * MOST_BYTES + 1);
        assert_eq!(ends("short"), "short");
    }
}
