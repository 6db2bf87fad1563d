//! Hugging Face's names of tensors, and where llama.cpp's converter put what they name.

use super::architecture::Architecture;

/// What of a GGUF tensor holds a Hugging Face tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// One matrix of a stack of experts.
    Expert(usize),
    /// The queries', keys' or values' rows of a matrix that has all three one above the other.
    Queries,
    Keys,
    Values,
}

/// Which heads' rows the converter interleaved for its kind of rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    Query,
    KeyValue,
}

/// A place where a Hugging Face tensor may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// GGUF's name.
    pub tensor: String,
    pub part: Part,
    pub interleaved: Option<Heads>,
    /// Gemma's norms multiply by one more than their weight; the file holds the sum.
    pub plus_one: bool,
}

impl Place {
    fn whole(tensor: String) -> Self {
        Self {
            tensor,
            part: Part::Whole,
            interleaved: None,
            plus_one: false,
        }
    }
}

/// Where `name` may lie in a file of `architecture`, likeliest first; empty for a name that GGUF has no place for.
pub fn places(architecture: Architecture, name: &str) -> Vec<Place> {
    let mut places = match name {
        "model.embed_tokens.weight" => vec![Place::whole("token_embd.weight".to_owned())],
        "model.norm.weight" => vec![Place::whole("output_norm.weight".to_owned())],
        "lm_head.weight" => vec![Place::whole("output.weight".to_owned())],
        _ => in_layer(architecture, name).unwrap_or_default(),
    };
    if architecture.norms_are_plus_one() && name.ends_with("norm.weight") {
        for place in &mut places {
            place.plus_one = true;
        }
    }
    places
}

fn in_layer(architecture: Architecture, name: &str) -> Option<Vec<Place>> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (stem, suffix) = rest.rsplit_once('.')?;
    if !matches!(suffix, "weight" | "bias") {
        return None;
    }
    let tensor = |stem: &str| format!("blk.{layer}.{stem}.{suffix}");
    let whole = |stem: &str| Some(vec![Place::whole(tensor(stem))]);
    let attention = |stem: &str, part: Part, heads: Option<Heads>| {
        let interleaved = heads.filter(|_| architecture.interleaves_rotary());
        let own = Place {
            interleaved,
            ..Place::whole(tensor(stem))
        };
        let shared = Place {
            part,
            interleaved,
            ..Place::whole(tensor("attn_qkv"))
        };
        Some(vec![own, shared])
    };
    match stem {
        "self_attn.q_proj" => attention("attn_q", Part::Queries, Some(Heads::Query)),
        "self_attn.k_proj" => attention("attn_k", Part::Keys, Some(Heads::KeyValue)),
        "self_attn.v_proj" => attention("attn_v", Part::Values, None),
        "self_attn.qkv_proj" if !architecture.interleaves_rotary() => whole("attn_qkv"),
        "self_attn.o_proj" => whole("attn_output"),
        "self_attn.q_norm" => whole("attn_q_norm"),
        "self_attn.k_norm" => whole("attn_k_norm"),
        "input_layernorm" => whole("attn_norm"),
        "post_attention_layernorm" if architecture.norms_after_blocks() => whole("post_attention_norm"),
        "post_attention_layernorm" | "pre_feedforward_layernorm" => whole("ffn_norm"),
        "post_feedforward_layernorm" => whole("post_ffw_norm"),
        // The converter keeps Phi-3's stacked gate and up matrix under the name of the up matrix.
        "mlp.gate_up_proj" if architecture.stacks_gate_and_up() => whole("ffn_up"),
        "mlp.gate_proj" | "mlp.up_proj" if architecture.stacks_gate_and_up() => None,
        "mlp.gate_proj" => whole("ffn_gate"),
        "mlp.up_proj" => whole("ffn_up"),
        "mlp.down_proj" => whole("ffn_down"),
        "mlp.gate" | "block_sparse_moe.gate" => whole("ffn_gate_inp"),
        _ => {
            let expert = stem
                .strip_prefix("mlp.experts.")
                .or_else(|| stem.strip_prefix("block_sparse_moe.experts."))?;
            let (expert, matrix) = expert.split_once('.')?;
            let expert: usize = expert.parse().ok()?;
            let matrix = match matrix {
                "gate_proj" | "w1" => "ffn_gate",
                "down_proj" | "w2" => "ffn_down",
                "up_proj" | "w3" => "ffn_up",
                _ => return None,
            };
            let stacked = Place {
                part: Part::Expert(expert),
                ..Place::whole(tensor(&format!("{matrix}_exps")))
            };
            // Files from before April 2024 have a tensor for each expert.
            Some(vec![stacked, Place::whole(tensor(&format!("{matrix}.{expert}")))])
        }
    }
}
