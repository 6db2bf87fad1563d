//! The metadata of a file as the `config.json` that transformers has for the same model.

use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::metadata::Metadata;
use super::{GgufFile, ModelError, rope, vocabulary};

/// The metadata's keys of one architecture.
pub struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: Architecture,
}

impl Keys<'_> {
    pub fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.architecture.name())
    }

    pub fn count(&self, rest: &str) -> Result<Option<usize>, String> {
        self.metadata.count(&self.key(rest))
    }

    pub fn float(&self, rest: &str) -> Result<Option<f64>, String> {
        self.metadata.float(&self.key(rest))
    }

    pub fn text(&self, rest: &str) -> Result<Option<&str>, String> {
        self.metadata.text(&self.key(rest))
    }

    /// A size without which there is no model.
    fn size(&self, rest: &str) -> Result<usize, String> {
        match self.count(rest)? {
            Some(0) => Err(format!("its {} is zero", self.key(rest))),
            Some(size) => Ok(size),
            None => Err(format!("it has no {}", self.key(rest))),
        }
    }
}

/// Query heads and key-value heads.
pub fn heads(metadata: &Metadata, architecture: Architecture) -> Result<(usize, usize), String> {
    let keys = Keys {
        metadata,
        architecture,
    };
    let heads = keys.size("attention.head_count")?;
    let kv_heads = keys.count("attention.head_count_kv")?.unwrap_or(heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "{heads} attention heads cannot share {kv_heads} key-value heads"
        ));
    }
    // More heads than this no model has, and sums of heads cannot overflow below it.
    if heads > 1 << 20 {
        return Err(format!("it says it has {heads} attention heads"));
    }
    Ok((heads, kv_heads))
}

pub fn config(file: &GgufFile) -> Result<Value, ModelError> {
    let keys = Keys {
        metadata: &file.header.metadata,
        architecture: file.architecture,
    };
    let bad = |reason| file.bad(reason);
    let factors = rope::Tensors::read(file)?;
    let mut config = shape(file, &keys).map_err(bad)?;
    config.extend(rope::rope(&keys, &factors).map_err(bad)?);
    config.extend(particular(file, &keys).map_err(bad)?);
    let tokens = vocabulary::special_ids(&file.header.metadata);
    config.insert("bos_token_id".to_owned(), json!(tokens.begin));
    config.insert("eos_token_id".to_owned(), json!(tokens.ends));
    Ok(Value::Object(config))
}

/// What every architecture has.
fn shape(file: &GgufFile, keys: &Keys) -> Result<Map<String, Value>, String> {
    let architecture = keys.architecture;
    let layers = keys.size("block_count")?;
    if layers > file.header.tensors.len() {
        return Err(format!(
            "it says it has {layers} layers, with {} tensors in all",
            file.header.tensors.len()
        ));
    }
    if keys.metadata.flag(&keys.key("attention.causal"))? == Some(false) {
        return Err(
            "its attention looks ahead (attention.causal is false), so it cannot write text".to_owned(),
        );
    }
    let hidden = keys.size("embedding_length")?;
    let head_dim = match keys.count("attention.key_length")? {
        Some(given) => given,
        None => hidden / file.heads,
    };
    if head_dim == 0 {
        return Err("its heads have no numbers".to_owned());
    }
    if let Some(values) = keys
        .count("attention.value_length")?
        .filter(|values| *values != head_dim)
    {
        return Err(format!(
            "its keys have {head_dim} numbers a head and its values {values}; they must have the same"
        ));
    }
    let embedding = file.shape("model.embed_tokens.weight");
    let Some([vocabulary, _]) = embedding.as_deref() else {
        return Err("it has no token_embd.weight of two dimensions".to_owned());
    };
    let in_first = |names: &[&str], suffix: &str| {
        names
            .iter()
            .any(|name| file.contains(&format!("model.layers.0.{name}.{suffix}")))
    };
    let (class, model_type) = class(keys)?;
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": file.heads,
        "num_key_value_heads": file.kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "max_position_embeddings": keys.size("context_length")?,
        "rms_norm_eps": keys.float("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| format!("it has no {}", keys.key("attention.layer_norm_rms_epsilon")))?,
        "tie_word_embeddings": !file.contains("lm_head.weight"),
        "attention_bias": in_first(&["self_attn.q_proj", "self_attn.qkv_proj", "self_attn.o_proj"], "bias"),
        "mlp_bias": in_first(&["mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj", "mlp.down_proj"], "bias"),
    });
    let fields = config.as_object_mut().expect("an object was just written");
    let experts_alone = architecture == Architecture::Qwen3Moe;
    if let Some(inner) = keys.count("feed_forward_length")?.filter(|inner| *inner > 0) {
        fields.insert("intermediate_size".to_owned(), json!(inner));
    } else if !experts_alone {
        return Err(format!("it has no {}", keys.key("feed_forward_length")));
    }
    let activation = if architecture.is_gemma() {
        ("hidden_activation", "gelu_pytorch_tanh")
    } else {
        ("hidden_act", "silu")
    };
    fields.insert(activation.0.to_owned(), json!(activation.1));
    Ok(std::mem::take(fields))
}

/// Transformers' class and `model_type`.
fn class(keys: &Keys) -> Result<(&'static str, &'static str), String> {
    let experts = keys.count("expert_count")?.unwrap_or(0);
    let windows = keys.count("attention.sliding_window")?.unwrap_or(0);
    Ok(match keys.architecture {
        Architecture::Llama if experts > 0 => ("MixtralForCausalLM", "mixtral"),
        Architecture::Qwen3Moe if experts > 0 => ("Qwen3MoeForCausalLM", "qwen3_moe"),
        Architecture::Qwen3Moe => return Err("it has no qwen3moe.expert_count".to_owned()),
        other if experts > 0 => {
            return Err(format!(
                "it has {experts} experts, and {} models here have none",
                other.name()
            ));
        }
        Architecture::Llama => ("LlamaForCausalLM", "llama"),
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        Architecture::Gemma2 => ("Gemma2ForCausalLM", "gemma2"),
        Architecture::Gemma3 => ("Gemma3ForCausalLM", "gemma3_text"),
        Architecture::Phi3 => ("Phi3ForCausalLM", "phi3"),
        Architecture::Granite => ("GraniteForCausalLM", "granite"),
        Architecture::SmolLm3 => ("SmolLM3ForCausalLM", "smollm3"),
        Architecture::Olmo2 if windows > 0 => ("Olmo3ForCausalLM", "olmo3"),
        Architecture::Olmo2 => ("Olmo2ForCausalLM", "olmo2"),
    })
}

/// What only one architecture has; defaults are those that llama.cpp takes for a file that says nothing.
fn particular(file: &GgufFile, keys: &Keys) -> Result<Map<String, Value>, String> {
    let layers = keys.size("block_count")?;
    let window = keys
        .count("attention.sliding_window")?
        .filter(|window| *window > 0);
    let head_dim = keys
        .count("attention.key_length")?
        .unwrap_or(keys.size("embedding_length")? / file.heads);
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    match keys.architecture {
        Architecture::Llama | Architecture::Qwen3Moe => {
            if let Some(window) = window {
                set("sliding_window", json!(window));
            }
            let experts = keys.count("expert_count")?.unwrap_or(0);
            if experts > 0 {
                let used = keys.size("expert_used_count")?;
                if used > experts {
                    return Err(format!("it has {experts} experts and uses {used} of them"));
                }
                softmax_router(keys)?;
                set("num_experts_per_tok", json!(used));
                if keys.architecture == Architecture::Llama {
                    set("num_local_experts", json!(experts));
                } else {
                    set("num_experts", json!(experts));
                    set("moe_intermediate_size", json!(expert_size(file, keys)?));
                    set("norm_topk_prob", json!(true));
                    set("decoder_sparse_step", json!(1));
                    set("mlp_only_layers", json!([]));
                }
            }
        }
        Architecture::Gemma2 => {
            set("sliding_window", json!(window.unwrap_or(4096)));
            set("layer_types", layer_types(keys, layers, 2)?);
            set(
                "attn_logit_softcapping",
                json!(keys.float("attn_logit_softcapping")?.unwrap_or(50.0)),
            );
            set(
                "final_logit_softcapping",
                json!(keys.float("final_logit_softcapping")?.unwrap_or(30.0)),
            );
            set(
                "query_pre_attn_scalar",
                json!(query_scalar(file, keys, layers == 46, head_dim)?),
            );
        }
        Architecture::Gemma3 => {
            set("sliding_window", json!(window));
            if window.is_some() {
                set("layer_types", layer_types(keys, layers, 6)?);
            } else {
                set("layer_types", json!(vec!["full_attention"; layers]));
            }
            set(
                "rope_local_base_freq",
                json!(keys.float("rope.freq_base_swa")?.unwrap_or(10_000.0)),
            );
            set(
                "final_logit_softcapping",
                json!(keys.float("final_logit_softcapping")?),
            );
            set(
                "query_pre_attn_scalar",
                json!(query_scalar(file, keys, layers == 62, head_dim)?),
            );
        }
        Architecture::Phi3 => set("sliding_window", json!(window)),
        Architecture::Granite => {
            if keys.metadata.flag(&keys.key("rope.scaling.finetuned"))? == Some(false) {
                return Err("it is a Granite model without rotary embeddings".to_owned());
            }
            // A scale of zero says that there is none.
            let scale = |key: &str| keys.float(key).map(|scale| scale.filter(|scale| *scale != 0.0));
            set(
                "embedding_multiplier",
                json!(scale("embedding_scale")?.unwrap_or(1.0)),
            );
            set(
                "residual_multiplier",
                json!(scale("residual_scale")?.unwrap_or(1.0)),
            );
            set("logits_scaling", json!(scale("logit_scale")?.unwrap_or(1.0)));
            let attention = scale("attention.scale")?.unwrap_or(1.0 / (head_dim as f64).sqrt());
            set("attention_multiplier", json!(attention));
        }
        Architecture::SmolLm3 => {
            // The file does not say; llama.cpp leaves every fourth layer without rotary embeddings.
            let rotary: Vec<u8> = (1..=layers)
                .map(|layer| u8::from(!layer.is_multiple_of(4)))
                .collect();
            set("no_rope_layers", json!(rotary));
            set("no_rope_layer_interval", json!(4));
        }
        Architecture::Olmo2 => {
            if let Some(window) = window {
                set("sliding_window", json!(window));
                set("layer_types", layer_types(keys, layers, 4)?);
            }
        }
        Architecture::Qwen2 | Architecture::Qwen3 => (),
    }
    Ok(fields)
}

fn softmax_router(keys: &Keys) -> Result<(), String> {
    const SOFTMAX: usize = 1;
    match keys.count("expert_gating_func")? {
        None | Some(0 | SOFTMAX) => Ok(()),
        Some(other) => Err(format!(
            "it chooses experts by function {other}, and only softmax ({SOFTMAX}) can be computed"
        )),
    }
}

fn expert_size(file: &GgufFile, keys: &Keys) -> Result<usize, String> {
    match keys.count("expert_feed_forward_length")?.filter(|size| *size > 0) {
        Some(size) => Ok(size),
        None => match file
            .shape("model.layers.0.mlp.experts.0.gate_proj.weight")
            .as_deref()
        {
            Some([rows, _]) => Ok(*rows),
            _ => Err(format!("it has no {}", keys.key("expert_feed_forward_length"))),
        },
    }
}

/// What scores are divided by the root of. The largest Gemmas, known by their number of layers, divide by their
/// hidden size over their heads; the file does not say so.
fn query_scalar(file: &GgufFile, keys: &Keys, largest: bool, head_dim: usize) -> Result<usize, String> {
    Ok(if largest {
        keys.size("embedding_length")? / file.heads
    } else {
        head_dim
    })
}

/// Which layers look through the window: those the file marks, or all but the last of each `pattern`.
fn layer_types(keys: &Keys, layers: usize, pattern: usize) -> Result<Value, String> {
    const KEY: &str = "attention.sliding_window_pattern";
    let key = keys.key(KEY);
    let marks = match keys.metadata.is_array(&key) {
        true => keys.metadata.numbers(&key)?,
        false => None,
    };
    let slides: Vec<bool> = if let Some(marks) = marks {
        if marks.len() < layers {
            return Err(format!(
                "its {key} speaks of {} layers and it has {layers}",
                marks.len()
            ));
        }
        marks.take(layers).map(super::metadata::Number::is_true).collect()
    } else {
        let pattern = keys.count(KEY)?.unwrap_or(pattern);
        (0..layers)
            .map(|layer| pattern == 0 || layer % pattern != pattern - 1)
            .collect()
    };
    let names = slides.into_iter().map(|slides| {
        if slides {
            "sliding_attention"
        } else {
            "full_attention"
        }
    });
    Ok(names.collect())
}
