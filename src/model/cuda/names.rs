//! What the kernels of `kernels/` are called.

/// Every kernel's name for one kind of half floats, by what else varies.
pub struct Names {
    pub embed: &'static str,
    pub embed_packed: [&'static str; 3],
    pub rms_norm: &'static str,
    pub residual_norm: &'static str,
    pub rope_kv: &'static str,
    /// By head width: 64, 96, 128, 256.
    pub decode_attention: [&'static str; 4],
    pub decode_attention_reduce: &'static str,
    pub prefill_attention: [&'static str; 4],
    pub gated: [&'static str; 4],
    pub add_bias: &'static str,
    /// By rows: 8, 16, 32, 64.
    pub gemv: [&'static str; 4],
    pub gemv_packed: [[&'static str; 4]; 3],
    pub dequantise: [&'static str; 3],
    /// By rows: 8, 32.
    pub moe_gemv: [&'static str; 2],
    pub moe_gemv_packed: [[&'static str; 2]; 3],
    pub moe_combine: &'static str,
    pub random: &'static str,
}

macro_rules! names {
    ($t:literal) => {
        Names {
            embed: concat!("embed_", $t),
            embed_packed: [
                concat!("embed_q8_0_", $t),
                concat!("embed_q4_k_", $t),
                concat!("embed_q6_k_", $t),
            ],
            rms_norm: concat!("rms_norm_", $t),
            residual_norm: concat!("residual_norm_", $t),
            rope_kv: concat!("rope_kv_", $t),
            decode_attention: [
                concat!("decode_attention_", $t, "_d64"),
                concat!("decode_attention_", $t, "_d96"),
                concat!("decode_attention_", $t, "_d128"),
                concat!("decode_attention_", $t, "_d256"),
            ],
            decode_attention_reduce: concat!("decode_attention_reduce_", $t),
            prefill_attention: [
                concat!("prefill_attention_", $t, "_d64"),
                concat!("prefill_attention_", $t, "_d96"),
                concat!("prefill_attention_", $t, "_d128"),
                concat!("prefill_attention_", $t, "_d256"),
            ],
            gated: [
                concat!("gated_silu_", $t),
                concat!("gated_gelu_tanh_", $t),
                concat!("gated_gelu_erf_", $t),
                concat!("gated_relu_", $t),
            ],
            add_bias: concat!("add_bias_", $t),
            gemv: [
                concat!("gemv_", $t, "_m8"),
                concat!("gemv_", $t, "_m16"),
                concat!("gemv_", $t, "_m32"),
                concat!("gemv_", $t, "_m64"),
            ],
            gemv_packed: [
                names!(@gemv "q8_0", $t),
                names!(@gemv "q4_k", $t),
                names!(@gemv "q6_k", $t),
            ],
            dequantise: [
                concat!("dequantise_q8_0_", $t),
                concat!("dequantise_q4_k_", $t),
                concat!("dequantise_q6_k_", $t),
            ],
            moe_gemv: [concat!("moe_gemv_", $t, "_m8"), concat!("moe_gemv_", $t, "_m32")],
            moe_gemv_packed: [
                names!(@moe "q8_0", $t),
                names!(@moe "q4_k", $t),
                names!(@moe "q6_k", $t),
            ],
            moe_combine: concat!("moe_combine_", $t),
            random: concat!("random_", $t),
        }
    };
    (@gemv $q:literal, $t:literal) => {
        [
            concat!("gemv_", $q, "_", $t, "_m8"),
            concat!("gemv_", $q, "_", $t, "_m16"),
            concat!("gemv_", $q, "_", $t, "_m32"),
            concat!("gemv_", $q, "_", $t, "_m64"),
        ]
    };
    (@moe $q:literal, $t:literal) => {
        [
            concat!("moe_gemv_", $q, "_", $t, "_m8"),
            concat!("moe_gemv_", $q, "_", $t, "_m32"),
        ]
    };
}

pub static BF16: Names = names!("bf16");
pub static F16: Names = names!("f16");
pub const REPACK: [&str; 3] = ["repack_q8_0", "repack_q4_k", "repack_q6_k"];
