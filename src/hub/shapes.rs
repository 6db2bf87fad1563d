//! Shapes of published models, for those who must plan before anything is fetched. Plain facts: of each model's
//! `config.json` on the Hugging Face Hub what decides size and mathematics, values as published; and how many
//! parameters that makes, a tied head counted once.

/// One published model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedShape {
    /// What it goes by here.
    pub name: &'static str,
    /// `ORG/NAME` on the hub.
    pub repo: &'static str,
    pub parameters: u64,
    /// The facts of its `config.json`, as JSON.
    pub config: &'static str,
}

/// The shape that goes by `name`, or that of the hub's repository of that name.
pub fn published_shape(name: &str) -> Option<&'static PublishedShape> {
    let is_it = |shape: &&PublishedShape| {
        shape.name.eq_ignore_ascii_case(name) || shape.repo.eq_ignore_ascii_case(name)
    };
    PUBLISHED.iter().find(is_it)
}

/// By family, small to large.
pub static PUBLISHED: [PublishedShape; 11] = [
    PublishedShape {
        name: "llama-3.2-1b",
        repo: "meta-llama/Llama-3.2-1B-Instruct",
        parameters: 1_235_814_400,
        config: r#"{
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
            "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
            "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 128256
        }"#,
    },
    PublishedShape {
        name: "llama-3.1-8b",
        repo: "meta-llama/Llama-3.1-8B-Instruct",
        parameters: 8_030_261_248,
        config: r#"{
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 128,
            "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
            "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "vocab_size": 128256
        }"#,
    },
    PublishedShape {
        name: "llama-3.3-70b",
        repo: "meta-llama/Llama-3.3-70B-Instruct",
        parameters: 70_553_706_496,
        config: r#"{
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 128,
            "hidden_act": "silu", "hidden_size": 8192, "intermediate_size": 28672,
            "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 64,
            "num_hidden_layers": 80, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "vocab_size": 128256
        }"#,
    },
    PublishedShape {
        name: "qwen2.5-0.5b",
        repo: "Qwen/Qwen2.5-0.5B-Instruct",
        parameters: 494_032_768,
        config: r#"{
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
            "max_position_embeddings": 32768, "num_attention_heads": 14, "num_hidden_layers": 24,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
            "vocab_size": 151936
        }"#,
    },
    PublishedShape {
        name: "qwen2.5-1.5b",
        repo: "Qwen/Qwen2.5-1.5B-Instruct",
        parameters: 1_543_714_304,
        config: r#"{
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
            "max_position_embeddings": 32768, "num_attention_heads": 12, "num_hidden_layers": 28,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
            "vocab_size": 151936
        }"#,
    },
    PublishedShape {
        name: "qwen2.5-7b",
        repo: "Qwen/Qwen2.5-7B-Instruct",
        parameters: 7_615_616_512,
        config: r#"{
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": 151643,
            "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
            "max_position_embeddings": 32768, "num_attention_heads": 28, "num_hidden_layers": 28,
            "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_sliding_window": false,
            "vocab_size": 152064
        }"#,
    },
    PublishedShape {
        name: "qwen3-0.6b",
        repo: "Qwen/Qwen3-0.6B",
        parameters: 596_049_920,
        config: r#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
            "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 1000000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "use_sliding_window": false, "vocab_size": 151936
        }"#,
    },
    PublishedShape {
        name: "qwen3-4b",
        repo: "Qwen/Qwen3-4B",
        parameters: 4_022_468_096,
        config: r#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 2560, "intermediate_size": 9728, "max_position_embeddings": 40960,
            "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 1000000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "use_sliding_window": false, "vocab_size": 151936
        }"#,
    },
    PublishedShape {
        name: "qwen3-14b",
        repo: "Qwen/Qwen3-14B",
        parameters: 14_768_307_200,
        config: r#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false,
            "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 5120, "intermediate_size": 17408, "max_position_embeddings": 40960,
            "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 1000000, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "use_sliding_window": false, "vocab_size": 151936
        }"#,
    },
    PublishedShape {
        name: "granite-3.3-2b",
        repo: "ibm-granite/granite-3.3-2b-instruct",
        parameters: 2_533_539_840,
        config: r#"{
            "architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_bias": false,
            "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
            "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "logits_scaling": 8.0,
            "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
            "num_hidden_layers": 40, "num_key_value_heads": 8, "residual_multiplier": 0.22,
            "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000000.0, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "vocab_size": 49159
        }"#,
    },
    PublishedShape {
        name: "granite-3.3-8b",
        repo: "ibm-granite/granite-3.3-8b-instruct",
        parameters: 8_170_864_640,
        config: r#"{
            "architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_bias": false,
            "attention_multiplier": 0.0078125, "bos_token_id": 0, "embedding_multiplier": 12.0,
            "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 12800,
            "logits_scaling": 16.0, "max_position_embeddings": 131072, "mlp_bias": false,
            "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
            "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000000.0,
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 49159
        }"#,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_found_by_both_its_names() {
        for shape in &PUBLISHED {
            assert_eq!(published_shape(shape.name), Some(shape));
            assert_eq!(published_shape(&shape.repo.to_uppercase()), Some(shape));
            let config: serde_json::Value = serde_json::from_str(shape.config).unwrap();
            assert_eq!(config["torch_dtype"], "bfloat16", "{}", shape.name);
        }
        assert_eq!(published_shape("llama"), None);
    }
}
