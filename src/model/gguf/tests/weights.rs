//! Tensors come back by transformers' names, in transformers' order and values.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::super::weights::{deinterleave, dequantise};
use super::writer::{Item, Writer, tiny};

/// What the converter does to a head's rows: of each pair of places, the first takes a row of the upper half, the
/// second its partner of the lower.
fn interleave(rows: &[u8], row_bytes: usize, heads: usize) -> Vec<u8> {
    let head_rows = rows.len() / row_bytes / heads;
    let mut mixed = Vec::new();
    for head in 0..heads {
        for pair in 0..head_rows / 2 {
            for half in 0..2 {
                let row = head * head_rows + half * (head_rows / 2) + pair;
                mixed.extend(&rows[row * row_bytes..(row + 1) * row_bytes]);
            }
        }
    }
    mixed
}

proptest! {
    #[test]
    fn interleaving_is_undone(heads in 1..6_usize, pairs in 1..9_usize, row_bytes in 1..40_usize, seed in any::<u8>()) {
        let rows: Vec<u8> = (0..heads * pairs * 2 * row_bytes).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        let mixed = interleave(&rows, row_bytes, heads);
        prop_assert_eq!(deinterleave(&mixed, row_bytes, heads), rows);
    }
}

fn counting(numbers: usize) -> Vec<f32> {
    (0..numbers).map(|number| number as f32).collect()
}

#[test]
fn queries_and_keys_of_llama_come_back_in_order_and_those_of_qwen_stay() {
    let llama = |architecture: &str| {
        Writer::default()
            .key("general.architecture", Item::Text(architecture))
            .key(&format!("{architecture}.attention.head_count"), Item::Count(2))
            .key(&format!("{architecture}.attention.head_count_kv"), Item::Count(1))
            .floats("blk.0.attn_q.weight", &[8, 1], &counting(8))
            .floats("blk.0.attn_q.bias", &[8], &counting(8))
            .floats("blk.0.attn_k.weight", &[4, 1], &counting(4))
            .floats("blk.0.attn_v.weight", &[4, 1], &counting(4))
            .open()
            .unwrap()
    };
    let name = |which: &str| format!("model.layers.0.self_attn.{which}");
    for architecture in ["llama", "granite", "smollm3"] {
        let file = llama(architecture);
        let q = file.tensor(&name("q_proj.weight"), &[8, 1]).unwrap();
        assert_eq!(q, [0., 2., 1., 3., 4., 6., 5., 7.]);
        assert_eq!(file.tensor(&name("q_proj.bias"), &[8]).unwrap(), q);
        assert_eq!(
            file.tensor(&name("k_proj.weight"), &[4, 1]).unwrap(),
            [0., 2., 1., 3.]
        );
        assert_eq!(file.tensor(&name("v_proj.weight"), &[4, 1]).unwrap(), counting(4));
        assert!(!file.contains(&name("qkv_proj.weight")));
    }
    for architecture in ["qwen2", "olmo2", "gemma3"] {
        let q = llama(architecture).tensor(&name("q_proj.weight"), &[8, 1]);
        assert_eq!(q.unwrap(), counting(8));
    }
}

#[test]
fn one_matrix_for_queries_keys_and_values_is_served_whole_and_in_parts() {
    let file = Writer::default()
        .key("general.architecture", Item::Text("phi3"))
        .key("phi3.attention.head_count", Item::Count(2))
        .key("phi3.attention.head_count_kv", Item::Count(1))
        .floats("blk.0.attn_qkv.weight", &[8, 2], &counting(16))
        .floats("blk.0.ffn_up.weight", &[6, 2], &counting(12))
        .open()
        .unwrap();
    let name = |which: &str| format!("model.layers.0.{which}.weight");
    assert_eq!(
        file.tensor(&name("self_attn.qkv_proj"), &[8, 2]).unwrap(),
        counting(16)
    );
    assert_eq!(
        file.tensor(&name("self_attn.q_proj"), &[4, 2]).unwrap(),
        counting(8)
    );
    assert_eq!(
        file.tensor(&name("self_attn.k_proj"), &[2, 2]).unwrap(),
        [8., 9., 10., 11.]
    );
    assert_eq!(
        file.tensor(&name("self_attn.v_proj"), &[2, 2]).unwrap(),
        [12., 13., 14., 15.]
    );
    assert_eq!(
        file.tensor(&name("mlp.gate_up_proj"), &[6, 2]).unwrap(),
        counting(12)
    );
    assert!(!file.contains(&name("mlp.up_proj")));
}

#[test]
fn experts_are_slices_of_a_stack_or_tensors_of_their_own() {
    let base = |architecture: &str| {
        Writer::default()
            .key("general.architecture", Item::Text(architecture))
            .key(&format!("{architecture}.attention.head_count"), Item::Count(1))
    };
    let stacked = base("qwen3moe")
        .floats("blk.0.ffn_gate_exps.weight", &[3, 2, 4], &counting(24))
        .floats("blk.0.ffn_gate_inp.weight", &[3, 4], &counting(12))
        .open()
        .unwrap();
    let second = "model.layers.0.mlp.experts.1.gate_proj.weight";
    assert_eq!(stacked.shape(second), Some(vec![2, 4]));
    assert_eq!(stacked.tensor(second, &[2, 4]).unwrap(), counting(24)[8..16]);
    assert_eq!(stacked.matrix(second, 2, 4).unwrap().blocks.len(), 32);
    assert!(!stacked.contains("model.layers.0.mlp.experts.3.gate_proj.weight"));
    assert!(stacked.contains("model.layers.0.mlp.gate.weight"));

    let apart = base("llama")
        .zeros("blk.0.ffn_down.1.weight", &[4, 2])
        .open()
        .unwrap();
    assert_eq!(
        apart.shape("model.layers.0.block_sparse_moe.experts.1.w2.weight"),
        Some(vec![4, 2])
    );
}

#[test]
fn norms_have_transformers_names_and_values() {
    let norms = |architecture: &str| {
        let norm = |writer: Writer, (name, value): (&str, f32)| writer.floats(name, &[2], &[value; 2]);
        [
            ("output_norm.weight", 1.5),
            ("blk.0.attn_norm.weight", 2.5),
            ("blk.0.post_attention_norm.weight", 3.5),
            ("blk.0.ffn_norm.weight", 4.5),
            ("blk.0.post_ffw_norm.weight", 5.5),
            ("blk.0.attn_q_norm.weight", 6.5),
        ]
        .into_iter()
        .fold(
            Writer::default()
                .key("general.architecture", Item::Text(architecture))
                .key(&format!("{architecture}.attention.head_count"), Item::Count(1)),
            norm,
        )
        .open()
        .unwrap()
    };
    let value = |file: &super::super::GgufFile, name: &str| {
        let name = match name {
            "norm" => "model.norm.weight".to_owned(),
            _ => format!("model.layers.0.{name}.weight"),
        };
        file.tensor(&name, &[2]).unwrap()[0]
    };
    let gemma = norms("gemma2");
    let names = [
        ("norm", 0.5),
        ("input_layernorm", 1.5),
        ("post_attention_layernorm", 2.5),
        ("pre_feedforward_layernorm", 3.5),
        ("post_feedforward_layernorm", 4.5),
        ("self_attn.q_norm", 5.5),
    ];
    for (name, wanted) in names {
        assert_eq!(value(&gemma, name), wanted, "{name}");
    }
    let olmo = norms("olmo2");
    assert_eq!(value(&olmo, "post_attention_layernorm"), 3.5);
    assert_eq!(value(&olmo, "post_feedforward_layernorm"), 5.5);
    assert_eq!(value(&norms("llama"), "post_attention_layernorm"), 4.5);
}

#[test]
fn a_wrong_shape_or_name_is_refused_with_both() {
    let file = tiny("llama").open().unwrap();
    let wrong = file
        .matrix("model.layers.0.self_attn.k_proj.weight", 16, 16)
        .err()
        .unwrap();
    assert!(
        wrong.to_string().contains("is [8, 16] where [16, 16] is wanted"),
        "{wrong}"
    );
    let missing = file
        .tensor("model.layers.0.self_attn.q_norm.weight", &[4])
        .err()
        .unwrap();
    assert!(
        missing.to_string().contains("q_norm.weight is missing"),
        "{missing}"
    );
    // 16 rows, which three heads cannot share.
    let odd = Writer::default()
        .key("general.architecture", Item::Text("llama"))
        .key("llama.attention.head_count", Item::Count(3))
        .zeros("blk.0.attn_q.weight", &[16, 4]);
    let odd = odd
        .open()
        .unwrap()
        .matrix("model.layers.0.self_attn.q_proj.weight", 16, 4);
    assert!(odd.err().unwrap().to_string().contains("3 heads cannot share"));
}

#[test]
fn every_kind_comes_back_close_to_what_was_stored() {
    let kinds = [
        (GgmlDType::F32, 0.0),
        (GgmlDType::F16, 0.001),
        (GgmlDType::BF16, 0.01),
        (GgmlDType::Q4_0, 0.2),
        (GgmlDType::Q4_1, 0.1),
        (GgmlDType::Q5_0, 0.1),
        (GgmlDType::Q5_1, 0.05),
        (GgmlDType::Q8_0, 0.01),
        (GgmlDType::Q2K, 0.5),
        (GgmlDType::Q3K, 0.3),
        (GgmlDType::Q4K, 0.1),
        (GgmlDType::Q5K, 0.06),
        (GgmlDType::Q6K, 0.05),
        (GgmlDType::Q8K, 0.02),
    ];
    let values: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
    let tensor = Tensor::from_vec(values.clone(), (2, 256), &Device::Cpu).unwrap();
    for (kind, tolerance) in kinds {
        let stored = QTensor::quantize(&tensor, kind).unwrap();
        let back = dequantise(kind, &stored.data().unwrap(), 512).unwrap();
        let worst = back
            .iter()
            .zip(&values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= tolerance, "{kind:?} is off by {worst}");
    }
}
