use serde_json::{Value, json};

use super::*;

fn tiny(architecture: &str) -> Value {
    json!({
        "architectures": [architecture], "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "eos_token_id": [3, 4]
    })
}

fn parse(architecture: &str, more: Value) -> Result<DecoderConfig, String> {
    let mut config = tiny(architecture);
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    DecoderConfig::parse("here", &config).map_err(|e| e.to_string())
}

#[test]
fn reads_the_shape() {
    let config = parse("LlamaForCausalLM", json!({})).unwrap();
    assert_eq!(
        (config.heads.dim, config.heads.kv, config.ropes[0].base),
        (16, 2, 5000.0)
    );
    assert_eq!(config.end_tokens, [3, 4]);
    let new = json!({"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}});
    assert_eq!(parse("LlamaForCausalLM", new).unwrap().ropes[0].base, 7.0);
}

#[test]
fn windows_are_where_each_family_has_them() {
    let windows = |architecture: &str, more: Value| -> Vec<Option<usize>> {
        let config = parse(architecture, more).unwrap();
        config.layers.iter().map(|layer| layer.window).collect()
    };
    let none = vec![None; 4];
    // Llama has none, whatever its config says; Mistral's class has one unless it is null.
    assert_eq!(windows("LlamaForCausalLM", json!({"sliding_window": 8})), none);
    assert_eq!(windows("MistralForCausalLM", json!({})), vec![Some(4096); 4]);
    assert_eq!(
        windows("MistralForCausalLM", json!({"sliding_window": null})),
        none
    );
    assert_eq!(windows("Qwen2ForCausalLM", json!({"sliding_window": 8})), none);
    let last_two = json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 2});
    assert_eq!(
        windows("Qwen2ForCausalLM", last_two),
        [None, None, Some(8), Some(8)]
    );
    let gemma = windows("Gemma2ForCausalLM", json!({"sliding_window": 8}));
    assert_eq!(gemma, [Some(8), None, Some(8), None]);
    let types = json!({"sliding_window": 8, "layer_types":
        ["full_attention", "sliding_attention", "full_attention", "full_attention"]});
    assert_eq!(windows("Gemma3ForCausalLM", types), [None, Some(8), None, None]);
}

#[test]
fn gemma_3_turns_local_and_global_layers_differently() {
    let more = json!({"head_dim": 16, "sliding_window_pattern": 2, "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}});
    let config = parse("Gemma3ForCausalLM", more).unwrap();
    let base = |layer: usize| {
        let rope = &config.ropes[config.layers[layer].rope.unwrap()];
        (rope.base, rope.scaling.clone())
    };
    assert_eq!(base(0), (100.0, RopeScaling::Default));
    assert_eq!(base(1), (5000.0, RopeScaling::Linear { factor: 8.0 }));
}

#[test]
fn the_text_of_a_model_with_an_image_tower_is_read() {
    let mut inner = tiny("");
    inner["head_dim"] = json!(16);
    let outer =
        json!({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner, "eos_token_id": 9});
    let config = DecoderConfig::parse("here", &outer).unwrap();
    assert_eq!((config.hidden, config.tied_head), (64, true));
}

#[test]
fn refuses_what_it_would_compute_wrongly() {
    let llama = "LlamaForCausalLM";
    let refusals = [
        ("GPT2LMHeadModel", json!({}), "GPT2LMHeadModel"),
        (
            llama,
            json!({"rope_scaling": {"type": "moebius", "factor": 2}}),
            "moebius",
        ),
        (llama, json!({"rope_scaling": {"type": "linear"}}), "no factor"),
        (llama, json!({"hidden_act": "snake"}), "snake"),
        (llama, json!({"num_key_value_heads": 3}), "cannot share"),
        (llama, json!({"hidden_size": "wide"}), "wide"),
        (llama, json!({"vocab_size": 0}), "vocab_size"),
        (
            llama,
            json!({"num_hidden_layers": 1_000_000}),
            "num_hidden_layers",
        ),
        (llama, json!({"head_dim": 7}), "head dimension"),
        (
            llama,
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "gptq",
        ),
        (
            "Gemma3ForCausalLM",
            json!({"use_bidirectional_attention": true}),
            "later ones",
        ),
        (
            "Qwen3ForCausalLM",
            json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": ["chunked_attention", "full_attention", "full_attention", "full_attention"]}),
            "chunked_attention",
        ),
        (
            "MixtralForCausalLM",
            json!({"num_local_experts": 2, "num_experts_per_tok": 3}),
            "experts",
        ),
        (
            "Phi3ForCausalLM",
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}),
            "factor",
        ),
    ];
    for (architecture, more, words) in refusals {
        let said = parse(architecture, more).unwrap_err();
        assert!(said.contains("here") && said.contains(words), "{said}");
    }
}
