//! The metadata of each architecture, as llama.cpp's converter writes it for a small model, becomes the config
//! that the model was converted from.

use serde_json::{Value, json};

use super::writer::{Item, Writer, tiny};

fn config(writer: Writer) -> Value {
    writer.open().unwrap().config().unwrap()
}

fn refusal(writer: Writer) -> String {
    writer.open().unwrap().config().err().unwrap().to_string()
}

fn expect(config: &Value, wanted: Value) {
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&config[name], value, "{name} of {config}");
    }
}

#[test]
fn llama_has_what_every_architecture_has() {
    expect(
        &config(
            tiny("llama")
                .key("llama.rope.freq_base", Item::Float(500_000.0))
                .key("llama.rope.dimension_count", Item::Count(4)),
        ),
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
            "vocab_size": 10, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 500_000.0,
            "rope_scaling": null, "partial_rotary_factor": null, "tie_word_embeddings": true,
            "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "sliding_window": null,
            "eos_token_id": [],
        }),
    );
    let more = tiny("llama")
        .zeros("output.weight", &[10, 16])
        .zeros("blk.0.attn_q.bias", &[16])
        .zeros("blk.0.ffn_up.bias", &[32])
        .key("llama.attention.key_length", Item::Count(8))
        .key("llama.attention.value_length", Item::Count(8))
        .key("llama.rope.dimension_count", Item::Count(6));
    expect(
        &config(more),
        json!({
            "tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true, "head_dim": 8,
            "partial_rotary_factor": 0.75,
        }),
    );
}

#[test]
fn rotary_scaling_has_transformers_shapes() {
    let linear = tiny("llama").key("llama.rope.scaling.factor", Item::Float(4.0));
    expect(
        &config(linear.clone()),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    );
    let old = tiny("llama").key("llama.rope.scale_linear", Item::Float(2.0));
    expect(
        &config(old),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    );
    let none = linear.clone().key("llama.rope.scaling.type", Item::Text("none"));
    expect(&config(none), json!({"rope_scaling": null}));
    // The converter's divisors for a Llama 3; a factor beside them scales every frequency too.
    let factors = |writer: Writer| config(writer.floats("rope_freqs.weight", &[2], &[1.0, 1.014_630_4]));
    expect(
        &factors(tiny("llama")),
        json!({"rope_scaling": {"rope_type": "factors", "factors": [1.0, 1.014_630_4]}}),
    );
    expect(
        &factors(linear),
        json!({"rope_scaling": {"rope_type": "factors", "factors": [4.0, 4.058_521_6]}}),
    );
    let yarn = tiny("qwen2")
        .key("qwen2.rope.scaling.type", Item::Text("yarn"))
        .key("qwen2.rope.scaling.factor", Item::Float(4.0))
        .key("qwen2.rope.scaling.original_context_length", Item::Count(64))
        .key("qwen2.rope.scaling.yarn_beta_fast", Item::Float(32.0));
    expect(
        &config(yarn),
        json!({"rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
        }}),
    );
    let odd = tiny("llama").key("llama.rope.scaling.type", Item::Text("dynamic"));
    assert!(refusal(odd).contains("\"dynamic\""));
    let loud = tiny("llama").key("llama.rope.scaling.attn_factor", Item::Float(1.5));
    assert!(refusal(loud).contains("attn_factor is 1.5"));
    let endless = tiny("llama").zeros("rope_freqs.weight", &[70_000]);
    assert!(refusal(endless).contains("70000 numbers"));
    let short = tiny("llama").floats("rope_freqs.weight", &[3], &[1.0; 3]);
    assert!(refusal(short).contains("2 pairs of numbers and have 3 divisors"));
    let broken = tiny("llama").floats("rope_freqs.weight", &[2], &[1.0, 0.0]);
    assert!(refusal(broken).contains("no positive number"));
}

#[test]
fn phi3_scales_by_the_length() {
    let phi = || {
        tiny("phi3")
            .key("phi3.attention.sliding_window", Item::Count(64))
            .key("phi3.rope.scaling.original_context_length", Item::Count(128))
    };
    let long = phi()
        .key("phi3.rope.scaling.attn_factor", Item::Float(1.069_045))
        .floats("rope_factors_long.weight", &[2], &[1.0, 8.0])
        .floats("rope_factors_short.weight", &[2], &[1.0, 1.1]);
    expect(
        &config(long),
        json!({
            "architectures": ["Phi3ForCausalLM"], "sliding_window": 64, "original_max_position_embeddings": 128,
            "rope_scaling": {
                "rope_type": "longrope", "long_factor": [1.0, 8.0], "short_factor": [1.0, 1.1],
                "original_max_position_embeddings": 128, "factor": 2.0, "attention_factor": 1.069_045,
            },
        }),
    );
    expect(&config(phi()), json!({"rope_scaling": null}));
}

#[test]
fn experts_are_counted() {
    let experts = |architecture: &str| {
        tiny(architecture)
            .key(&format!("{architecture}.expert_count"), Item::Count(4))
            .key(&format!("{architecture}.expert_used_count"), Item::Count(2))
    };
    expect(
        &config(experts("llama")),
        json!({"architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2}),
    );
    expect(
        &config(experts("qwen3moe").key("qwen3moe.expert_feed_forward_length", Item::Count(24))),
        json!({
            "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 24, "norm_topk_prob": true, "mlp_only_layers": [], "decoder_sparse_step": 1,
        }),
    );
    let stack = experts("qwen3moe").zeros("blk.0.ffn_gate_exps.weight", &[4, 20, 16]);
    expect(&config(stack), json!({"moe_intermediate_size": 20}));
    assert!(refusal(experts("qwen3")).contains("4 experts"));
    let sigmoid = experts("llama").key("llama.expert_gating_func", Item::Count(2));
    assert!(refusal(sigmoid).contains("only softmax"));
    assert!(refusal(tiny("qwen3moe")).contains("qwen3moe.expert_count"));
}

#[test]
fn gemmas_alternate_windows() {
    let gemma2 = tiny("gemma2")
        .key("gemma2.attention.key_length", Item::Count(8))
        .key("gemma2.attention.sliding_window", Item::Count(64))
        .key("gemma2.attn_logit_softcapping", Item::Float(50.0))
        .key("gemma2.final_logit_softcapping", Item::Float(30.0));
    expect(
        &config(gemma2),
        json!({
            "architectures": ["Gemma2ForCausalLM"], "hidden_activation": "gelu_pytorch_tanh", "hidden_act": null,
            "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"],
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 8,
        }),
    );
    let gemma3 = || {
        tiny("gemma3")
            .key("gemma3.rope.freq_base", Item::Float(1_000_000.0))
            .key("gemma3.attention.sliding_window", Item::Count(32))
    };
    expect(
        &config(gemma3()),
        json!({
            "architectures": ["Gemma3ForCausalLM"], "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
            "sliding_window": 32, "layer_types": ["sliding_attention", "sliding_attention"],
            "final_logit_softcapping": null, "query_pre_attn_scalar": 4,
        }),
    );
    const PATTERN: &str = "gemma3.attention.sliding_window_pattern";
    expect(
        &config(gemma3().key(PATTERN, Item::Flags(&[false, true]))),
        json!({"layer_types": ["full_attention", "sliding_attention"]}),
    );
    expect(
        &config(gemma3().key(PATTERN, Item::Count(1))),
        json!({"layer_types": ["full_attention", "full_attention"]}),
    );
    assert!(refusal(gemma3().key(PATTERN, Item::Flags(&[true]))).contains("1 layers"));
}

#[test]
fn the_others_say_what_is_theirs() {
    let granite = tiny("granite")
        .key("granite.attention.scale", Item::Float(0.015_625))
        .key("granite.embedding_scale", Item::Float(12.0))
        .key("granite.residual_scale", Item::Float(0.22))
        .key("granite.logit_scale", Item::Float(8.0));
    expect(
        &config(granite),
        json!({
            "architectures": ["GraniteForCausalLM"], "attention_multiplier": 0.015_625,
            "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0,
        }),
    );
    expect(
        &config(tiny("granite")),
        json!({"attention_multiplier": 0.5, "embedding_multiplier": 1.0}),
    );
    expect(
        &config(tiny("smollm3")),
        json!({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 1]}),
    );
    expect(
        &config(tiny("qwen2")),
        json!({"architectures": ["Qwen2ForCausalLM"]}),
    );
    expect(
        &config(tiny("qwen3")),
        json!({"architectures": ["Qwen3ForCausalLM"]}),
    );
    expect(
        &config(tiny("olmo2")),
        json!({"architectures": ["Olmo2ForCausalLM"], "layer_types": null}),
    );
    let olmo3 = tiny("olmo2").key("olmo2.attention.sliding_window", Item::Count(64));
    expect(
        &config(olmo3),
        json!({"architectures": ["Olmo3ForCausalLM"], "layer_types": ["sliding_attention", "sliding_attention"]}),
    );
}

#[test]
fn what_is_missing_or_of_the_wrong_type_is_named() {
    let base = || {
        Writer::default()
            .key("general.architecture", Item::Text("llama"))
            .key("llama.attention.head_count", Item::Count(4))
    };
    assert!(refusal(base()).contains("no llama.block_count"));
    let textual = base().key("llama.block_count", Item::Text("two"));
    assert!(refusal(textual).contains("llama.block_count is not a whole number"));
    let by_layer = |counts: &[i32]| {
        Writer::default()
            .key("general.architecture", Item::Text("llama"))
            .key("llama.attention.head_count", Item::Counts(counts))
            .open()
    };
    assert!(by_layer(&[4, 4]).is_ok());
    assert!(
        by_layer(&[4, 2])
            .err()
            .unwrap()
            .to_string()
            .contains("head_count is not")
    );
    let ahead = tiny("llama").key("llama.attention.causal", Item::Flag(false));
    assert!(refusal(ahead).contains("looks ahead"));
    let uneven = tiny("llama").key("llama.attention.value_length", Item::Count(8));
    assert!(refusal(uneven).contains("must have the same"));
}
