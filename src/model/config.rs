//! `config.json` of a Hugging Face folder, read into what the Llama-family decoder needs.

use serde::Deserialize;

use super::ModelError;

pub const SUPPORTED: &str = "LlamaForCausalLM with default rotary embeddings";

/// Shape of a Llama-family decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    pub architecture: String,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: usize,
    pub max_positions: usize,
    pub norm_eps: f64,
    pub rope_theta: f64,
    pub tied_head: bool,
    pub end_tokens: Vec<u32>,
}

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

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    eos_token_id: Option<OneOrMany>,
}

/// Where transformers 5 keeps what used to be `rope_theta` and `rope_scaling`.
#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

impl DecoderConfig {
    /// # Errors
    /// `BadFile` for text that is no config, `Unsupported` for mathematics this decoder lacks.
    pub fn parse(place: &str, json: &[u8]) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadFile {
            place: place.to_owned(),
            file: "config.json".to_owned(),
            reason,
        };
        let unsupported = |reason: String| ModelError::Unsupported {
            place: place.to_owned(),
            reason,
            supported: SUPPORTED,
        };

        let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let architecture = value["architectures"][0]
            .as_str()
            .unwrap_or("an unnamed architecture")
            .to_owned();
        if architecture != "LlamaForCausalLM" {
            return Err(unsupported(format!("its architecture is {architecture}")));
        }
        let raw: RawConfig = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;

        let rope_type = raw
            .rope_parameters
            .as_ref()
            .and_then(|p| p.rope_type.as_deref())
            .unwrap_or("default");
        if rope_type != "default" || raw.rope_scaling.as_ref().is_some_and(|s| !s.is_null()) {
            return Err(unsupported("it scales its rotary embeddings".to_owned()));
        }
        if raw.attention_bias || raw.mlp_bias {
            return Err(unsupported("its projections have biases".to_owned()));
        }
        if raw.hidden_act.as_deref().unwrap_or("silu") != "silu" {
            return Err(unsupported(format!(
                "its activation is {}",
                raw.hidden_act.unwrap_or_default()
            )));
        }
        let heads = raw.num_attention_heads;
        let kv_heads = raw.num_key_value_heads.unwrap_or(heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(bad(format!(
                "{heads} attention heads cannot share {kv_heads} key-value heads"
            )));
        }
        let head_dim = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(bad(format!("a head dimension of {head_dim} is odd or zero")));
        }
        if [
            raw.hidden_size,
            raw.intermediate_size,
            raw.num_hidden_layers,
            raw.vocab_size,
        ]
        .contains(&0)
        {
            return Err(bad("a size is zero".to_owned()));
        }
        Ok(Self {
            architecture: raw.architectures.into_iter().next().unwrap_or(architecture),
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads,
            kv_heads,
            head_dim,
            vocabulary: raw.vocab_size,
            max_positions: raw.max_position_embeddings,
            norm_eps: raw.rms_norm_eps,
            rope_theta: raw
                .rope_parameters
                .and_then(|p| p.rope_theta)
                .or(raw.rope_theta)
                .unwrap_or(10_000.0),
            tied_head: raw.tie_word_embeddings,
            end_tokens: raw.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> serde_json::Value {
        serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "eos_token_id": [3, 4]
        })
    }

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<DecoderConfig, String> {
        let mut value = tiny();
        change(&mut value);
        DecoderConfig::parse("here", value.to_string().as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_the_shape() {
        let config = parse(|_| ()).unwrap();
        assert_eq!(
            (config.head_dim, config.kv_heads, config.rope_theta),
            (16, 2, 5000.0)
        );
        assert_eq!(config.end_tokens, [3, 4]);
        let new =
            parse(|v| v["rope_parameters"] = serde_json::json!({"rope_theta": 7.0, "rope_type": "default"}));
        assert_eq!(new.unwrap().rope_theta, 7.0);
    }

    #[test]
    fn refuses_what_it_would_compute_wrongly() {
        let refusals = [
            parse(|v| v["architectures"] = serde_json::json!(["GPT2LMHeadModel"])),
            parse(|v| v["rope_scaling"] = serde_json::json!({"type": "linear", "factor": 2})),
            parse(|v| v["attention_bias"] = true.into()),
            parse(|v| v["hidden_act"] = "gelu".into()),
            parse(|v| v["num_key_value_heads"] = 3.into()),
            parse(|v| v["hidden_size"] = "wide".into()),
            parse(|v| v["vocab_size"] = 0.into()),
        ];
        for refusal in refusals {
            assert!(refusal.unwrap_err().contains("here"));
        }
    }
}
