//! Sound headers are read; broken ones cost one sentence.

use proptest::prelude::*;

use super::writer::{Item, Writer, open, text, tiny};
use crate::model::ModelError;

fn refusal(result: Result<super::super::GgufFile, ModelError>) -> String {
    let sentence = result.expect_err("a refusal").to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

/// Everything a caller may ask of a file that opened.
fn use_all(file: &super::super::GgufFile) {
    let _ = file.config();
    let _ = file.tokenizer();
    file.tokenizer_config();
    for name in [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.1.mlp.experts.1.up_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ] {
        let Some(shape) = file.shape(name) else { continue };
        let _ = file.tensor(name, &shape);
        if let [rows, columns] = shape[..] {
            let _ = file.matrix(name, rows, columns);
        }
    }
}

fn with_tokenizer() -> Vec<u8> {
    tiny("llama")
        .key("tokenizer.ggml.model", Item::Text("llama"))
        .key(
            "tokenizer.ggml.tokens",
            Item::Texts(&["<unk>", "<s>", "</s>", "a", "b", "ab", "\u{2581}"]),
        )
        .key(
            "tokenizer.ggml.scores",
            Item::Floats(&[0.0, 0.0, 0.0, -3.0, -2.0, -1.0, -4.0]),
        )
        .key("tokenizer.ggml.token_type", Item::Counts(&[2, 3, 3, 1, 1, 1, 1]))
        .bytes()
}

fn with_merges() -> Vec<u8> {
    tiny("gemma3")
        .key("gemma3.attention.sliding_window", Item::Count(8))
        .key(
            "gemma3.attention.sliding_window_pattern",
            Item::Flags(&[true, false]),
        )
        .key("tokenizer.ggml.model", Item::Text("gpt2"))
        .key("tokenizer.ggml.pre", Item::Text("qwen2"))
        .key(
            "tokenizer.ggml.tokens",
            Item::Texts(&["a", "b", "ab", "<|im_end|>"]),
        )
        .key("tokenizer.ggml.token_type", Item::Counts(&[1, 1, 1, 3]))
        .key("tokenizer.ggml.merges", Item::Texts(&["a b"]))
        .key("tokenizer.ggml.eos_token_id", Item::Count(3))
        .key("tokenizer.ggml.add_eos_token", Item::Flag(true))
        .bytes()
}

#[test]
fn a_sound_file_opens() {
    let file = open(&with_tokenizer()).unwrap();
    assert_eq!(
        file.shape("model.layers.1.self_attn.k_proj.weight"),
        Some(vec![8, 16])
    );
    assert!(!file.contains("model.layers.2.self_attn.k_proj.weight"));
    assert!(!file.contains("lm_head.weight"));
    let ids = file.tokenizer().unwrap().encode("ab", true).unwrap();
    assert_eq!(ids.get_ids(), [1, 6, 5]);
    let ids = open(&with_merges())
        .unwrap()
        .tokenizer()
        .unwrap()
        .encode("ab", true);
    assert_eq!(ids.unwrap().get_ids(), [2, 3]);
}

#[test]
fn wrong_beginnings_are_named() {
    let mut bytes = with_tokenizer();
    assert!(refusal(open(b"")).contains("ends after 0 bytes"));
    bytes[4] = 1;
    assert!(refusal(open(&bytes)).contains("version 1"));
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(refusal(open(&bytes)).contains("big-endian"));
    bytes[0] = b'X';
    assert!(refusal(open(&bytes)).contains("does not begin with GGUF"));
}

#[test]
fn counts_past_the_file_are_refused_before_anything_is_allocated() {
    let sound = with_tokenizer();
    for at in [8, 16] {
        let mut bytes = sound.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refusal(open(&bytes)).contains("more than its size holds"));
    }
    let mut long_key = b"GGUF\x03\0\0\0".to_vec();
    long_key.extend(0_u64.to_le_bytes());
    long_key.extend(1_u64.to_le_bytes());
    long_key.extend((u64::MAX - 3).to_le_bytes());
    long_key.extend([0; 40]);
    assert!(refusal(open(&long_key)).contains("inside a key"));

    let array_of = |kind: u32, count: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        text(&mut bytes, "k");
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        refusal(open(&bytes))
    };
    assert!(array_of(10, u64::MAX).contains("more than its size holds"));
    assert!(array_of(8, 1 << 40).contains("more than its size holds"));
    assert!(array_of(0, 1 << 40).contains("inside the value of k"));
    assert!(array_of(9, 1).contains("array of arrays"));
    assert!(array_of(13, 1).contains("type 13"));
}

#[test]
fn tensors_must_be_whole_apart_and_inside() {
    let base = || Writer::default().key("general.architecture", Item::Text("llama"));
    let block = |rows: usize| vec![0_u8; rows * 18];
    assert!(refusal(base().tensor("t", &[], 0, vec![0; 4]).open()).contains("0 dimensions"));
    assert!(refusal(base().tensor("t", &[1; 5], 0, vec![0; 4]).open()).contains("5 dimensions"));
    assert!(refusal(base().tensor("t", &[0, 4], 0, vec![]).open()).contains("no sensible size"));
    assert!(refusal(base().tensor("t", &[2, 33], 2, block(4)).open()).contains("no whole blocks"));
    assert!(refusal(base().tensor("t", &[4, 32], 2, block(2)).open()).contains("reaches past"));
    assert!(refusal(base().tensor("t", &[1 << 40, 1 << 40], 0, vec![]).open()).contains("more numbers"));
    let twice = base().zeros("t", &[4]).zeros("t", &[4]);
    assert!(refusal(twice.open()).contains("tensor t twice"));
    let key_twice = base().key("general.architecture", Item::Text("llama"));
    assert!(refusal(key_twice.open()).contains("key general.architecture twice"));
    // The first tensor's data are 32 bytes; one that says it has 64 lies over the second.
    let over = base().tensor("a", &[16], 0, vec![0; 32]).zeros("b", &[8]);
    assert!(refusal(over.open()).contains("over one another"));
    let crooked = base().key("general.alignment", Item::Count(24)).zeros("a", &[8]);
    assert!(refusal(crooked.open()).contains("no power of two"));
}

#[test]
fn what_cannot_be_computed_is_named_with_what_can() {
    let experts = Writer::default()
        .key("general.architecture", Item::Text("llama"))
        .tensor("blk.0.ffn_gate_exps.weight", &[1, 32], 39, vec![0; 17]);
    let sentence = refusal(experts.open());
    assert!(
        sentence.contains("blk.0.ffn_gate_exps.weight is stored as MXFP4"),
        "{sentence}"
    );
    assert!(sentence.contains("Q4_K"), "{sentence}");
    let mamba = Writer::default().key("general.architecture", Item::Text("mamba"));
    assert!(refusal(mamba.open()).contains("qwen3moe"));
    let part = Writer::default()
        .key("general.architecture", Item::Text("llama"))
        .key("split.count", Item::Count(3));
    assert!(refusal(part.open()).contains("llama-gguf-split --merge"));
}

#[test]
fn a_model_without_heads_or_with_more_layers_than_tensors_is_refused() {
    let no_heads = Writer::default().key("general.architecture", Item::Text("llama"));
    assert!(refusal(no_heads.open()).contains("llama.attention.head_count"));
    let mut tall = tiny("smollm3").bytes();
    let at = tall
        .windows(11)
        .position(|bytes| bytes == b"block_count")
        .unwrap()
        + 11
        + 4;
    tall[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let config = open(&tall).unwrap().config();
    assert!(config.err().unwrap().to_string().contains("4294967295 layers"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_cut_file_never_opens(part in 0.0..1.0_f64) {
        let whole = with_tokenizer();
        let cut = (whole.len() as f64 * part) as usize;
        // The last tensor's padding is no part of it.
        prop_assume!(cut < whole.len() - 32);
        refusal(open(&whole[..cut]));
    }

    #[test]
    fn flipped_bytes_never_panic(
        flips in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 1..4),
        merges in any::<bool>(),
    ) {
        let mut bytes = if merges { with_merges() } else { with_tokenizer() };
        // The header is what is believed; zeroes follow it.
        let header = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for (place, value) in flips {
            bytes[(header as f64 * place) as usize] = value;
        }
        match open(&bytes) {
            Ok(file) => use_all(&file),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}
