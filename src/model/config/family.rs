//! What sets one family of decoders apart from the next.

use super::fields::Fields;
use super::{Activation, Biases, Naming, NormPlaces, QueryKeyNorm};
use crate::model::ModelError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Mistral,
    Gemma2,
    Gemma3,
    Phi3,
    Granite,
    SmolLm3,
    Olmo2,
    Mixtral,
    Qwen3Moe,
}

impl Family {
    pub fn of(architecture: &str) -> Option<Self> {
        Some(match architecture {
            "LlamaForCausalLM" => Self::Llama,
            "Qwen2ForCausalLM" => Self::Qwen2,
            "Qwen3ForCausalLM" => Self::Qwen3,
            "MistralForCausalLM" => Self::Mistral,
            "Gemma2ForCausalLM" => Self::Gemma2,
            // The second is the checkpoint with an image tower, of which the text is served.
            "Gemma3ForCausalLM" | "Gemma3ForConditionalGeneration" => Self::Gemma3,
            "Phi3ForCausalLM" => Self::Phi3,
            "GraniteForCausalLM" => Self::Granite,
            "SmolLM3ForCausalLM" => Self::SmolLm3,
            "Olmo2ForCausalLM" => Self::Olmo2,
            "MixtralForCausalLM" => Self::Mixtral,
            "Qwen3MoeForCausalLM" => Self::Qwen3Moe,
            _ => return None,
        })
    }

    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    pub fn norms(self) -> NormPlaces {
        match self {
            Self::Gemma2 | Self::Gemma3 => NormPlaces::Around,
            Self::Olmo2 => NormPlaces::After,
            _ => NormPlaces::Before,
        }
    }

    pub fn norm_eps(self) -> f64 {
        match self {
            Self::Phi3 | Self::Olmo2 | Self::Mixtral => 1e-5,
            _ => 1e-6,
        }
    }

    pub fn query_key_norm(self) -> QueryKeyNorm {
        match self {
            Self::Qwen3 | Self::Qwen3Moe | Self::Gemma3 => QueryKeyNorm::PerHead,
            Self::Olmo2 => QueryKeyNorm::Whole,
            _ => QueryKeyNorm::None,
        }
    }

    pub fn naming(self) -> Naming {
        match self {
            Self::Phi3 => Naming::Fused,
            Self::Mixtral => Naming::Mixtral,
            _ => Naming::Plain,
        }
    }

    /// The head dimension of a config that gives none, where it is not hidden / heads.
    pub fn head_dim(self) -> Option<usize> {
        match self {
            Self::Gemma2 | Self::Gemma3 => Some(256),
            Self::Qwen3 => Some(128),
            _ => None,
        }
    }

    pub fn ties_head(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3 | Self::SmolLm3)
    }

    /// The base of the rotary embedding of a config that gives none.
    pub fn rope_base(self) -> f64 {
        match self {
            Self::Mixtral | Self::Gemma3 => 1_000_000.0,
            Self::SmolLm3 => 2_000_000.0,
            _ => 10_000.0,
        }
    }

    /// A Granite multiplier; 1 for all others, whatever their config says, as in transformers.
    pub fn multiplier(self, fields: &Fields, key: &str) -> Result<f32, ModelError> {
        if self != Self::Granite {
            return Ok(1.0);
        }
        let value = fields.number_or(key, 1.0)?;
        if key == "logits_scaling" && value == 0.0 {
            return Err(fields.bad("logits_scaling is 0, and logits are divided by it".to_owned()));
        }
        Ok(value as f32)
    }

    pub fn attention_scale(self, fields: &Fields, head_dim: usize) -> Result<f32, ModelError> {
        let scale = match self {
            Self::Granite => fields.number_or("attention_multiplier", 1.0)?,
            Self::Gemma2 | Self::Gemma3 => {
                let scalar = fields.number_or("query_pre_attn_scalar", 256.0)?;
                if scalar <= 0.0 {
                    return Err(
                        fields.bad(format!("query_pre_attn_scalar is {scalar}, and must be positive"))
                    );
                }
                scalar.powf(-0.5)
            }
            _ => (head_dim as f64).powf(-0.5),
        };
        Ok(scale as f32)
    }

    /// Gemma's soft caps; Gemma 3 has none unless its config says so, and then on the last logits alone.
    pub fn softcap(
        self,
        fields: &Fields,
        key: &str,
        default: Option<f64>,
    ) -> Result<Option<f32>, ModelError> {
        let cap = match self {
            Self::Gemma2 if !fields.has(key) => default,
            Self::Gemma2 => fields.optional_number(key)?,
            Self::Gemma3 if key == "final_logit_softcapping" => fields.optional_number(key)?,
            _ => None,
        };
        match cap {
            Some(cap) if cap <= 0.0 => Err(fields.bad(format!("{key} is {cap}, and must be positive"))),
            cap => Ok(cap.map(|cap| cap as f32)),
        }
    }

    pub fn biases(self, fields: &Fields) -> Result<Biases, ModelError> {
        let flag = |key| fields.flag(key).map(Option::unwrap_or_default);
        Ok(match self {
            Self::Qwen2 => Biases {
                query_key_value: true,
                output: false,
                feed: false,
            },
            Self::Llama | Self::Granite | Self::SmolLm3 => Biases {
                query_key_value: flag("attention_bias")?,
                output: flag("attention_bias")?,
                feed: flag("mlp_bias")?,
            },
            Self::Mistral | Self::Mixtral | Self::Phi3 => Biases {
                query_key_value: false,
                output: false,
                feed: false,
            },
            Self::Qwen3 | Self::Qwen3Moe | Self::Gemma2 | Self::Gemma3 | Self::Olmo2 => Biases {
                query_key_value: flag("attention_bias")?,
                output: flag("attention_bias")?,
                feed: false,
            },
        })
    }

    pub fn activation(self, fields: &Fields) -> Result<Activation, ModelError> {
        let (key, default) = if self.is_gemma() {
            ("hidden_activation", "gelu_pytorch_tanh")
        } else {
            ("hidden_act", "silu")
        };
        match fields.text(key)?.unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::GeluErf),
            "relu" => Ok(Activation::Relu),
            other => Err(fields.unsupported(format!("its activation is {other}"))),
        }
    }

    /// Settings of these families that would change the answer and are not computed here.
    pub fn refuse_what_differs(self, fields: &Fields) -> Result<(), ModelError> {
        let both_ways = fields.get("use_bidirectional_attention");
        if self.is_gemma() && both_ways.is_some_and(|v| v.as_bool() != Some(false)) {
            return Err(fields.unsupported("its tokens attend to later ones".to_owned()));
        }
        Ok(())
    }
}
