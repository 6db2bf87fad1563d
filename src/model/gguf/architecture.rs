//! The model families that a GGUF file may name, and what llama.cpp takes each name to mean.

/// Those that load, as refusals list them.
pub const SERVED: &str =
    "GGUF files of llama, qwen2, qwen3, qwen3moe, gemma2, gemma3, phi3, granite, smollm3 and olmo2";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama, Mistral and, with experts, Mixtral.
    Llama,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Gemma2,
    Gemma3,
    Phi3,
    Granite,
    SmolLm3,
    Olmo2,
}

impl Architecture {
    /// Reads `general.architecture`.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "llama" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "qwen3moe" => Self::Qwen3Moe,
            "gemma2" => Self::Gemma2,
            "gemma3" => Self::Gemma3,
            "phi3" => Self::Phi3,
            "granite" => Self::Granite,
            "smollm3" => Self::SmolLm3,
            "olmo2" => Self::Olmo2,
            _ => return None,
        })
    }

    /// As the keys of the metadata begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3moe",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
            Self::Granite => "granite",
            Self::SmolLm3 => "smollm3",
            Self::Olmo2 => "olmo2",
        }
    }

    /// Whether rotary embeddings turn neighbouring numbers, for which the converter reorders the rows of queries
    /// and keys; the others turn a head's halves against one another, as transformers does.
    pub fn interleaves_rotary(self) -> bool {
        matches!(self, Self::Llama | Self::Granite | Self::SmolLm3)
    }

    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    pub fn norms_are_plus_one(self) -> bool {
        self.is_gemma()
    }

    /// Whether `post_attention_layernorm` norms what attention gave, and not what the feed-forward block is given.
    pub fn norms_after_blocks(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3 | Self::Olmo2)
    }

    pub fn stacks_gate_and_up(self) -> bool {
        self == Self::Phi3
    }
}
