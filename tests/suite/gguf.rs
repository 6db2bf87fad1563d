//! A model from a GGUF file is the model from its folder: the same weights written with llama.cpp's names and row
//! order give transformers' tokens, and quantised ones stay near them.

use std::path::Path;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use messplus::model::{Batch, Compute, LoadedModel, ModelSource, Precision, inspect, load};
use messplus::units::TokenId;

use crate::architectures::{Fixture, read};
use crate::support::root;

fn gguf_name(name: &str) -> String {
    let fixed = [
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("lm_head.", "output."),
        ("model.layers.", "blk."),
        ("input_layernorm.", "attn_norm."),
        ("post_attention_layernorm.", "ffn_norm."),
        ("self_attn.q_proj.", "attn_q."),
        ("self_attn.k_proj.", "attn_k."),
        ("self_attn.v_proj.", "attn_v."),
        ("self_attn.o_proj.", "attn_output."),
        ("mlp.gate_proj.", "ffn_gate."),
        ("mlp.up_proj.", "ffn_up."),
        ("mlp.down_proj.", "ffn_down."),
    ];
    fixed
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Rows of each head from halves beside each other, as transformers turns them, to pairs, as llama.cpp does.
fn interleaved(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let width = values.len() / rows;
    let half = rows / heads / 2;
    (0..rows)
        .flat_map(|row| {
            let (head, place) = (row / (2 * half), row % (2 * half));
            let from = head * 2 * half + place / 2 + (place % 2) * half;
            values[from * width..(from + 1) * width].to_vec()
        })
        .collect()
}

/// Writes a Llama or Qwen2 fixture as a GGUF file whose matrices are of `kind`.
fn write_gguf(fixture: &Fixture, architecture: &str, kind: GgmlDType, path: &Path) {
    let config = &fixture.config;
    let number = |key: &str| config[key].as_u64().unwrap() as u32;
    let (heads, kv_heads) = (number("num_attention_heads"), number("num_key_value_heads"));
    let vocabulary = fixture.greedy_logits[0].len();
    let mut keys: Vec<(String, Value)> = [
        ("block_count", Value::U32(number("num_hidden_layers"))),
        ("context_length", Value::U32(number("max_position_embeddings"))),
        ("embedding_length", Value::U32(number("hidden_size"))),
        ("feed_forward_length", Value::U32(number("intermediate_size"))),
        ("attention.head_count", Value::U32(heads)),
        ("attention.head_count_kv", Value::U32(kv_heads)),
        (
            "attention.layer_norm_rms_epsilon",
            Value::F32(config["rms_norm_eps"].as_f64().unwrap() as f32),
        ),
    ]
    .into_iter()
    .map(|(key, value)| (format!("{architecture}.{key}"), value))
    .collect();
    if let Some(dim) = config["head_dim"].as_u64() {
        for key in [
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ] {
            keys.push((format!("{architecture}.{key}"), Value::U32(dim as u32)));
        }
    }
    let base = config["rope_parameters"]["rope_theta"].as_f64().unwrap();
    keys.push((format!("{architecture}.rope.freq_base"), Value::F32(base as f32)));
    let mut tokens: Vec<Value> = ["a", "b", "ab"].map(|t| Value::String(t.to_owned())).to_vec();
    tokens.extend((3..vocabulary).map(|id| Value::String(format!("w{id}"))));
    let text = |text: &str| Value::String(text.to_owned());
    for (key, value) in [
        ("general.architecture", text(architecture)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("qwen2")),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.merges", Value::Array(vec![text("a b")])),
        (
            "tokenizer.ggml.token_type",
            Value::Array(vec![Value::I32(1); vocabulary]),
        ),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ] {
        keys.push((key.to_owned(), value));
    }
    let tensors: Vec<(String, QTensor)> = fixture
        .tensors
        .iter()
        .map(|rule| {
            let mut values = rule.values();
            for (part, heads) in [("q_proj", heads), ("k_proj", kv_heads)] {
                if architecture == "llama" && rule.name.contains(part) {
                    values = interleaved(&values, rule.shape[0], heads as usize);
                }
            }
            let tensor = Tensor::from_vec(values, rule.shape.as_slice(), &Device::Cpu).unwrap();
            let whole_blocks = rule.shape.len() == 2 && rule.shape[1].is_multiple_of(kind.block_size());
            let kind = if whole_blocks { kind } else { GgmlDType::F32 };
            (gguf_name(&rule.name), QTensor::quantize(&tensor, kind).unwrap())
        })
        .collect();
    let keys: Vec<(&str, &Value)> = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = std::fs::File::create(path).unwrap();
    write(&mut file, &keys, &tensors).unwrap();
}

/// The last row's logits after the prompt, and how the same row comes out in chunks beside another.
fn logits(model: &mut LoadedModel, prompt: &[TokenId]) -> (Vec<f32>, Vec<f32>) {
    (0..8).for_each(|page| model.decoder.materialise_page(page));
    let mut alone = Batch::default();
    alone.push(prompt, 0, prompt.len(), &[2, 5], true);
    let alone = model.decoder.forward(&alone).unwrap().row(0).to_vec();
    let mut first = Batch::default();
    first.push(&prompt[..13], 0, prompt.len(), &[3, 1], false);
    model.decoder.forward(&first).unwrap();
    let mut rest = Batch::default();
    rest.push(&prompt[7..29], 0, 22, &[4], true);
    rest.push(&prompt[13..], 13, prompt.len(), &[3, 1], true);
    let beside = model.decoder.forward(&rest).unwrap().row(1).to_vec();
    (alone, beside)
}

#[test]
fn gguf_files_give_the_models_that_their_folders_give() {
    for (name, architecture) in [("qwen2-1", "qwen2"), ("llama-1", "llama"), ("llama-9", "llama")] {
        let fixture = read(&root().join(format!("tests/fixtures/arch/{name}.json")));
        let prompt: Vec<TokenId> = fixture.prompt.iter().copied().map(TokenId).collect();
        let want = &fixture.greedy_logits[0];
        let spread = want.iter().map(|w| w * w).sum::<f32>().sqrt() / (want.len() as f32).sqrt();
        // How far logits may be, in their own spread: what the format loses on such small rows.
        for (kind, tolerance) in [
            (GgmlDType::F32, 1e-3 / spread),
            (GgmlDType::F16, 0.01),
            (GgmlDType::Q8_0, 0.15),
            (GgmlDType::Q5_1, 0.8),
            (GgmlDType::Q4_0, 1.6),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.gguf");
            write_gguf(&fixture, architecture, kind, &path);
            let source = ModelSource::Gguf(path);
            let seen = inspect(&source).unwrap();
            let mut model = load(&source, Compute::Cpu, Precision::Auto).unwrap();
            assert_eq!(
                (seen.parameters, seen.max_positions),
                (model.parameters, model.max_positions)
            );
            assert_eq!(model.end_tokens, [TokenId(2)]);
            let (alone, beside) = logits(&mut model, &prompt);
            assert_eq!(alone, beside, "{name} {kind:?}: the company shows");
            let apart = alone
                .iter()
                .zip(want)
                .map(|(a, w)| (a - w).abs())
                .fold(0.0, f32::max);
            assert!(
                apart <= tolerance * spread,
                "{name} {kind:?}: off by {apart} of {spread}"
            );
        }
    }
}
