"""The configurations: three or more for every architecture, each aimed at something that decoders get wrong.

A `Case` with `legacy` writes its config.json as transformers 4 wrote it (`rope_theta`, `rope_scaling`,
`rope_local_base_freq`), which is what most published checkpoints still carry.
"""

from dataclasses import dataclass


@dataclass
class Case:
    """One fixture: transformers' model_type, what it is for, the config's arguments."""

    model_type: str
    what: str
    config: dict
    legacy: bool = False
    seed: int = 0


def rope(theta=10000.0, **scaling):
    return {"rope_theta": theta, "rope_type": "default", **scaling}


def shape(hidden, layers, heads, kv_heads, intermediate, vocab=96, **more):
    return {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "intermediate_size": intermediate, "vocab_size": vocab, "max_position_embeddings": 128,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **more}


LLAMA3 = rope(500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
SHORT = [1.0, 1.1, 1.25, 1.4, 1.6, 1.9]
LONG = [1.2, 1.9, 3.0, 4.5, 6.0, 8.0]


def longrope(pairs):
    return {"rope_type": "longrope", "short_factor": SHORT[:pairs], "long_factor": LONG[:pairs]}


LLAMA = [
    Case("llama", "default rope, odd grouped heads 6/3", shape(48, 3, 6, 3, 88, tie_word_embeddings=False)),
    Case("llama", "llama3 rope, tied, legacy config", shape(64, 2, 4, 2, 96, tie_word_embeddings=True, rope_parameters=LLAMA3), legacy=True),
    Case("llama", "linear rope, head size 12, one key head", shape(36, 3, 3, 1, 80, rope_parameters=rope(rope_type="linear", factor=4.0))),
    Case("llama", "yarn rope", shape(64, 2, 4, 4, 96, rope_parameters=YARN)),
    Case("llama", "biases in attention and MLP, tied", shape(40, 2, 5, 5, 64, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    Case("llama", "dynamic rope within its context, legacy config",
         shape(48, 2, 4, 2, 64, rope_parameters=rope(rope_type="dynamic", factor=2.0)), legacy=True),
    Case("llama", "dynamic rope past its context: the base grows with every token, cached keys keep the base of their step",
         shape(48, 2, 4, 2, 64, rope_parameters=rope(rope_type="dynamic", factor=2.0), max_position_embeddings=32)),
    Case("llama", "yarn rope with its own betas and attention factor, legacy config",
         shape(48, 2, 3, 3, 64, rope_parameters=rope(1000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=16,
                                                      beta_fast=8.0, beta_slow=2.0, attention_factor=1.3)), legacy=True),
    Case("llama", "explicit head size 20, silu, other epsilon",
         shape(48, 2, 3, 1, 72, head_dim=20, rms_norm_eps=1e-2, rope_parameters=rope(1e6), tie_word_embeddings=False)),
]

QWEN2 = [
    Case("qwen2", "biases, grouped heads", shape(64, 2, 4, 2, 96, tie_word_embeddings=False)),
    Case("qwen2", "tied, odd heads 3/1, legacy config", shape(36, 3, 3, 1, 80, tie_word_embeddings=True, rope_parameters=rope(1e6)), legacy=True),
    Case("qwen2", "sliding window of 12 from layer 2 on", shape(48, 4, 4, 2, 64, use_sliding_window=True, sliding_window=12, max_window_layers=2)),
    Case("qwen2", "use_sliding_window false with a window set, yarn rope",
         shape(48, 2, 6, 2, 64, use_sliding_window=False, sliding_window=8, max_window_layers=0, rope_parameters=YARN), legacy=True),
]

QWEN3 = [
    Case("qwen3", "head size 20 with hidden/heads 12", shape(48, 3, 4, 2, 88, head_dim=20, tie_word_embeddings=False)),
    Case("qwen3", "tied, odd heads 5/1, legacy config",
         shape(40, 2, 5, 1, 64, head_dim=16, tie_word_embeddings=True, rope_parameters=rope(1e6)), legacy=True),
    Case("qwen3", "sliding window of 8 from layer 1 on, attention bias",
         shape(32, 3, 4, 4, 64, head_dim=12, attention_bias=True, use_sliding_window=True, sliding_window=8, max_window_layers=1)),
]

MISTRAL = [
    Case("mistral", "sliding window of 16, shorter than the prompt", shape(48, 3, 6, 2, 88, sliding_window=16)),
    Case("mistral", "no window, explicit head size 24, legacy config", shape(48, 2, 4, 2, 96, sliding_window=None, head_dim=24), legacy=True),
    Case("mistral", "window of 5, odd heads 5/1, tied",
         shape(40, 4, 5, 1, 64, sliding_window=5, tie_word_embeddings=True, rope_parameters=rope(1e6))),
]

GEMMA2 = [
    Case("gemma2", "softcaps, window of 16 on even layers, query scale 24",
         shape(48, 4, 4, 2, 96, head_dim=16, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0, final_logit_softcapping=8.0)),
    Case("gemma2", "no softcaps, odd heads 3/1, legacy config",
         shape(36, 3, 3, 1, 64, head_dim=12, sliding_window=8, query_pre_attn_scalar=12, attn_logit_softcapping=None,
               final_logit_softcapping=None), legacy=True),
    Case("gemma2", "softcaps as published, head size 20",
         shape(32, 2, 2, 2, 64, head_dim=20, sliding_window=64, query_pre_attn_scalar=32, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)),
]

GEMMA3 = [
    Case("gemma3_text", "every third layer global, two rope bases",
         shape(48, 4, 4, 2, 96, head_dim=16, sliding_window=16, query_pre_attn_scalar=24,
               layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
               rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e4)})),
    Case("gemma3_text", "linear rope on global layers, pattern of 2, legacy config",
         shape(36, 4, 3, 1, 64, head_dim=12, sliding_window=8, query_pre_attn_scalar=12,
               layer_types=["sliding_attention", "full_attention"] * 2,
               rope_parameters={"full_attention": rope(1e5, rope_type="linear", factor=8.0), "sliding_attention": rope(1e4)}), legacy=True),
    Case("gemma3_text", "final softcap, head size 20, window wider than the prompt",
         shape(40, 3, 5, 5, 64, head_dim=20, sliding_window=64, query_pre_attn_scalar=20, final_logit_softcapping=8.0,
               layer_types=["sliding_attention", "full_attention", "sliding_attention"],
               rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e3)})),
]

PHI3 = [
    Case("phi3", "fused projections, default rope", shape(48, 3, 6, 3, 88)),
    Case("phi3", "longrope, prompt past the original context, legacy config",
         shape(48, 2, 4, 4, 64, original_max_position_embeddings=32, rope_parameters=rope(**longrope(6))), legacy=True),
    Case("phi3", "longrope, decoding crosses the original context: from the 49th token on the whole sequence is computed anew with the long factors",
         shape(48, 2, 4, 2, 64, original_max_position_embeddings=48, rope_parameters=rope(**longrope(6)))),
    Case("phi3", "longrope, never past the original context, legacy config",
         shape(36, 2, 3, 1, 64, original_max_position_embeddings=64, rope_parameters=rope(**longrope(6))), legacy=True),
    Case("phi3", "partial rope 0.75, tied, longrope past the original context",
         shape(64, 2, 4, 2, 96, original_max_position_embeddings=32, tie_word_embeddings=True,
               rope_parameters=rope(partial_rotary_factor=0.75, **longrope(6)))),
    Case("phi3", "partial rope 0.5, sliding window of 12", shape(40, 3, 5, 5, 64, sliding_window=12, rope_parameters=rope(partial_rotary_factor=0.5))),
]

GRANITE = [
    Case("granite", "all four multipliers",
         shape(48, 3, 6, 3, 88, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.6, logits_scaling=2.5)),
    Case("granite", "tied, attention bias, legacy config",
         shape(36, 2, 3, 1, 64, attention_bias=True, tie_word_embeddings=True, embedding_multiplier=0.5, attention_multiplier=0.1,
               residual_multiplier=0.7, logits_scaling=0.5), legacy=True),
    Case("granite", "MLP bias, multipliers of one", shape(40, 2, 5, 5, 64, mlp_bias=True, rope_parameters=rope(1e6))),
]

SMOLLM3 = [
    Case("smollm3", "every second layer without rope", shape(48, 4, 6, 3, 88, no_rope_layers=[1, 0, 1, 0], tie_word_embeddings=True)),
    Case("smollm3", "first layer without rope, untied, legacy config",
         shape(36, 3, 3, 1, 64, no_rope_layers=[0, 1, 1], tie_word_embeddings=False, rope_parameters=rope(2e6)), legacy=True),
    Case("smollm3", "sliding window of 10 on layers with rope",
         shape(40, 4, 5, 5, 64, no_rope_layer_interval=4, use_sliding_window=True, sliding_window=10,
               layer_types=["sliding_attention"] * 3 + ["full_attention"])),
]

OLMO2 = [
    Case("olmo2", "norms after attention and MLP, norms over all heads at once", shape(48, 3, 6, 3, 88, tie_word_embeddings=False)),
    Case("olmo2", "tied, odd heads 3/1, legacy config", shape(36, 2, 3, 1, 64, tie_word_embeddings=True, rope_parameters=rope(5e5)), legacy=True),
    Case("olmo2", "five heads of 8, attention bias", shape(40, 2, 5, 5, 64, attention_bias=True)),
]

MIXTRAL = [
    Case("mixtral", "4 experts, 2 a token", shape(48, 2, 6, 3, 40, num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    Case("mixtral", "sliding window of 12, legacy config",
         shape(36, 3, 3, 1, 32, num_local_experts=4, num_experts_per_tok=2, sliding_window=12, rope_parameters=rope(1e6)), legacy=True),
    Case("mixtral", "5 experts, 1 a token, tied", shape(40, 2, 5, 5, 32, num_local_experts=5, num_experts_per_tok=1, tie_word_embeddings=True)),
]


def moe(hidden, layers, heads, kv_heads, intermediate, **more):
    return shape(hidden, layers, heads, kv_heads, intermediate, num_experts=6, num_experts_per_tok=2, **more)


QWEN3_MOE = [
    Case("qwen3_moe", "experts on every second layer, kept weights normalised",
         moe(48, 4, 6, 3, 88, head_dim=12, moe_intermediate_size=24, decoder_sparse_step=2, norm_topk_prob=True)),
    Case("qwen3_moe", "one plain layer by mlp_only_layers, weights not normalised, legacy config",
         moe(36, 3, 3, 1, 64, head_dim=20, moe_intermediate_size=32, decoder_sparse_step=1, mlp_only_layers=[1], norm_topk_prob=False), legacy=True),
    Case("qwen3_moe", "experts everywhere, three a token, tied",
         {**moe(40, 2, 5, 5, 64, head_dim=8, moe_intermediate_size=16, decoder_sparse_step=1, norm_topk_prob=True, tie_word_embeddings=True),
          "num_experts_per_tok": 3}),
]

SINGLE = [
    Case("starcoder2", "layer norms, biases, tied", shape(48, 2, 6, 3, 88, use_bias=True, tie_word_embeddings=True, sliding_window=None), legacy=True),
    Case("stablelm", "partial rope 0.25, layer norms, biases in q, k and v",
         shape(64, 2, 4, 4, 96, use_qkv_bias=True, rope_parameters=rope(partial_rotary_factor=0.25)), legacy=True),
    Case("phi", "parallel attention and MLP, partial rope 0.5", shape(48, 2, 4, 4, 88, rope_parameters=rope(partial_rotary_factor=0.5)), legacy=True),
    Case("glm4", "four norms a layer, partial interleaved rope",
         shape(48, 2, 4, 2, 88, head_dim=16, attention_bias=True, tie_word_embeddings=False, rope_parameters=rope(partial_rotary_factor=0.5)), legacy=True),
]

CASES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "mistral": MISTRAL, "gemma2": GEMMA2, "gemma3": GEMMA3, "phi3": PHI3,
         "granite": GRANITE, "smollm3": SMOLLM3, "olmo2": OLMO2, "mixtral": MIXTRAL, "qwen3moe": QWEN3_MOE,
         **{case.model_type: [case] for case in SINGLE}}
