//! `config.json`, read into what the packed decoder needs. Defaults are those of transformers' config classes.

mod family;
mod fields;
mod layers;
mod parameters;
mod rope;

use super::ModelError;
use super::attention::Heads;
use super::rotary::{Rope, RopeScaling};
use family::Family;
pub use fields::Fields;
use serde::Deserialize;

/// What the packed decoder computes, for messages.
pub const SUPPORTED: &str = "Llama, Qwen2, Qwen3, Mistral, Gemma 2 and 3, Phi-3, Granite, SmolLM3, OLMo 2, Mixtral and \
                             Qwen3-MoE, batched";

#[derive(Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    pub fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// Shape and mathematics of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    pub architecture: String,
    pub hidden: usize,
    pub vocabulary: usize,
    pub max_positions: usize,
    pub heads: Heads,
    pub layers: Vec<LayerConfig>,
    pub norm_eps: f64,
    /// Where a block's norms stand.
    pub norms: NormPlaces,
    /// Gemma stores its norm weights less one.
    pub norm_offset: f32,
    pub query_key_norm: QueryKeyNorm,
    pub activation: Activation,
    pub biases: Biases,
    pub naming: Naming,
    pub tied_head: bool,
    /// Every token's embedding is multiplied by this.
    pub embedding_scale: f32,
    /// What a block adds to the stream is multiplied by this.
    pub residual_scale: f32,
    /// Logits are divided by this.
    pub logits_divisor: f32,
    pub attention_scale: f32,
    pub attention_softcap: Option<f32>,
    pub final_softcap: Option<f32>,
    /// The rotary embeddings that layers name by index.
    pub ropes: Vec<Rope>,
    /// Phi-3 computes a sequence anew, all of it with the long factors, once it grows past this length.
    pub restart_past: Option<usize>,
    pub end_tokens: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// A token sees this many last tokens, itself included.
    pub window: Option<usize>,
    /// Index into [`DecoderConfig::ropes`]; `None` for a layer that does not turn.
    pub rope: Option<usize>,
    pub feed: FeedConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FeedConfig {
    Dense {
        inner: usize,
    },
    Experts {
        count: usize,
        used: usize,
        inner: usize,
        /// Weights of the experts used are made to sum to one.
        renormalise: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before attention and before the feed-forward part.
    Before,
    /// Before and after both.
    Around,
    /// After both.
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    None,
    /// Each head by itself, one weight `[head_dim]` for all.
    PerHead,
    /// All heads together, weight `[heads · head_dim]`.
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    GeluTanh,
    GeluErf,
    Relu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    pub query_key_value: bool,
    pub output: bool,
    pub feed: bool,
}

/// How a family names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    Plain,
    /// Phi-3 keeps queries, keys and values in one tensor, gate and up in another.
    Fused,
    /// `block_sparse_moe.experts.E.{w1, w3, w2}`.
    Mixtral,
}

impl DecoderConfig {
    /// # Errors
    /// `BadFile` for text that is no config, `Unsupported` for mathematics this decoder lacks.
    pub fn parse(place: &str, json: &serde_json::Value) -> Result<Self, ModelError> {
        let top = Fields::new(place, json);
        let architecture = architecture(json);
        let unsupported = |reason: String| ModelError::Unsupported {
            place: place.to_owned(),
            reason,
            supported: SUPPORTED,
        };
        let Some(family) = Family::of(&architecture) else {
            return Err(unsupported(format!("its architecture is {architecture}")));
        };
        if !json["quantization_config"].is_null() {
            let method = json["quantization_config"]["quant_method"]
                .as_str()
                .unwrap_or("some way");
            return Err(unsupported(format!(
                "its safetensors are quantised by {method}; use the original weights or a GGUF"
            )));
        }
        // Multimodal checkpoints keep the language model's config inside.
        let fields = match json.get("text_config") {
            Some(text) if text.is_object() => Fields::new(place, text),
            _ => top,
        };
        family.refuse_what_differs(&fields)?;
        let (hidden, vocabulary) = (fields.size("hidden_size")?, fields.size("vocab_size")?);
        let heads = heads(&fields, family, hidden)?;
        let max_positions = fields.size("max_position_embeddings")?;
        let (ropes, rope_kinds) = rope::read(&fields, family, heads.dim, max_positions)?;
        let max_positions = ropes.first().map_or(max_positions, Rope::stretched_positions);
        let end_tokens = [&fields, &top].iter().find_map(|f| f.token_ids("eos_token_id"));
        Ok(Self {
            layers: layers::read(&fields, family, &rope_kinds)?,
            hidden,
            vocabulary,
            max_positions,
            heads,
            norm_eps: fields.number_or("rms_norm_eps", family.norm_eps())?,
            norms: family.norms(),
            norm_offset: if family.is_gemma() { 1.0 } else { 0.0 },
            query_key_norm: family.query_key_norm(),
            activation: family.activation(&fields)?,
            biases: family.biases(&fields)?,
            naming: family.naming(),
            tied_head: fields
                .flag("tie_word_embeddings")?
                .or(top.flag("tie_word_embeddings")?)
                .unwrap_or(family.ties_head()),
            embedding_scale: if family.is_gemma() {
                (hidden as f64).sqrt() as f32
            } else {
                family.multiplier(&fields, "embedding_multiplier")?
            },
            residual_scale: family.multiplier(&fields, "residual_multiplier")?,
            logits_divisor: family.multiplier(&fields, "logits_scaling")?,
            attention_scale: family.attention_scale(&fields, heads.dim)?,
            attention_softcap: family.softcap(&fields, "attn_logit_softcapping", Some(50.0))?,
            final_softcap: family.softcap(&fields, "final_logit_softcapping", Some(30.0))?,
            restart_past: ropes.iter().find_map(|rope| match &rope.scaling {
                RopeScaling::LongRope(long) if family == Family::Phi3 => Some(long.original_max),
                _ => None,
            }),
            ropes,
            end_tokens: end_tokens.unwrap_or_default(),
            architecture,
        })
    }
}

impl DecoderConfig {
    /// See [`Decoder::cache_salt`](super::Decoder::cache_salt).
    pub fn cache_salt(&self, prompt_tokens: usize) -> u64 {
        let regimes = self.ropes.iter().map(|rope| rope.regime(prompt_tokens));
        regimes.fold(0u64, |salt, regime| salt.wrapping_mul(31).wrapping_add(regime))
    }

    /// See [`Decoder::restarts_at`](super::Decoder::restarts_at).
    pub fn restarts_at(&self, tokens: usize) -> bool {
        self.restart_past.is_some_and(|limit| tokens == limit + 1)
    }
}

/// `architectures[0]`, or words that say there is none.
pub fn architecture(json: &serde_json::Value) -> String {
    json["architectures"][0]
        .as_str()
        .unwrap_or("an unnamed architecture")
        .to_owned()
}

fn heads(fields: &Fields, family: Family, hidden: usize) -> Result<Heads, ModelError> {
    let query = fields.size("num_attention_heads")?;
    let kv = fields.size_or("num_key_value_heads", query)?;
    if !query.is_multiple_of(kv) {
        return Err(fields.bad(format!(
            "{query} attention heads cannot share {kv} key-value heads"
        )));
    }
    let dim = match fields.optional_size("head_dim")? {
        Some(dim) => dim,
        None => family.head_dim().unwrap_or(hidden / query),
    };
    if dim == 0 || !dim.is_multiple_of(2) || dim > 512 {
        return Err(fields.bad(format!(
            "a head dimension of {dim} is not an even number from 2 to 512"
        )));
    }
    Ok(Heads { query, kv, dim })
}

#[cfg(test)]
mod tests;
