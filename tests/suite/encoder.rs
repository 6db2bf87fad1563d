//! ModernBERT against Hugging Face transformers: `scripts/make_encoder_fixtures.py` wrote down the configs of tiny random
//! models and the mean of what transformers computes with them.

use std::path::{Path, PathBuf};

use messplus::model::{Encoder, ModelError, ModelSource, inspect_encoder};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::architectures::TensorRule;
use crate::support::root;

#[derive(Deserialize)]
struct Fixture {
    config: Value,
    tensors: Vec<TensorRule>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    ids: Vec<u32>,
    mean: Vec<f32>,
}

fn read(name: &str) -> Fixture {
    let path = root().join("tests/fixtures/encoder").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes the fixture out as a Hugging Face folder. Its tokenizer knows a word for every id and puts 1 and 2 around a text.
fn write(fixture: &Fixture, folder: &Path) -> ModelSource {
    let bytes =
        |rule: &TensorRule| -> Vec<u8> { rule.values().iter().flat_map(|v| v.to_le_bytes()).collect() };
    let values: Vec<Vec<u8>> = fixture.tensors.iter().map(bytes).collect();
    let views = fixture.tensors.iter().zip(&values).map(|(rule, bytes)| {
        let view = TensorView::new(Dtype::F32, rule.shape.clone(), bytes).unwrap();
        (rule.name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("config.json"), fixture.config.to_string()).unwrap();
    let vocabulary = fixture.config["vocab_size"].as_u64().unwrap();
    let words: serde_json::Map<String, Value> =
        (0..vocabulary).map(|id| (format!("w{id}"), id.into())).collect();
    let special = |id: u32| json!({"id": format!("w{id}"), "ids": [id], "tokens": [format!("w{id}")]});
    let piece = |id: u32| json!({"SpecialToken": {"id": format!("w{id}"), "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null,
        "post_processor": {"type": "TemplateProcessing", "single": [piece(1), text, piece(2)],
            "pair": [piece(1), text, piece(2)], "special_tokens": {"w1": special(1), "w2": special(2)}},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    ModelSource::Folder(folder.to_owned())
}

fn words(ids: &[u32]) -> String {
    ids.iter().map(|id| format!("w{id} ")).collect()
}

/// The tiny encoder as a folder to serve from.
pub fn folder_of_a_tiny_encoder(at: &Path) -> PathBuf {
    let folder = at.join("modernbert");
    std::fs::create_dir(&folder).unwrap();
    write(&read("modernbert-1.json"), &folder);
    folder
}

#[test]
fn means_are_those_of_transformers() {
    for name in ["modernbert-1.json", "modernbert-2.json"] {
        let fixture = read(name);
        let folder = tempfile::tempdir().unwrap();
        let source = write(&fixture, folder.path());
        let encoder = Encoder::load(&source).unwrap();
        assert_eq!(
            (encoder.width(), inspect_encoder(&source).unwrap().width),
            (48, 48)
        );
        for text in &fixture.texts {
            let got = encoder.encode(&words(&text.ids)).unwrap();
            assert_eq!(got.len(), text.mean.len());
            let apart = got
                .iter()
                .zip(&text.mean)
                .map(|(g, w)| (g - w).abs())
                .fold(0.0, f32::max);
            println!("{name}, {} tokens: {apart:e}", text.ids.len());
            assert!(apart < 1e-3, "{name}, {} tokens: off by {apart}", text.ids.len());
        }
    }
}

#[test]
fn a_text_that_is_too_long_is_read_at_its_ends() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Encoder::load(&write(&read("modernbert-1.json"), folder.path())).unwrap();
    let text = |middle: u32| {
        let ids: Vec<u32> = (0..400)
            .map(|at| {
                if (130..270).contains(&at) {
                    middle
                } else {
                    3 + at % 90
                }
            })
            .collect();
        encoder.encode(&words(&ids)).unwrap()
    };
    assert_eq!(text(5), text(70));
    assert!(encoder.encode("").unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn what_is_no_modernbert_is_refused_with_the_reason() {
    let refused = |change: &dyn Fn(&mut Fixture)| -> String {
        let mut fixture = read("modernbert-1.json");
        change(&mut fixture);
        let folder = tempfile::tempdir().unwrap();
        let refusal = Encoder::load(&write(&fixture, folder.path()))
            .map(drop)
            .unwrap_err();
        assert!(matches!(
            refusal,
            ModelError::Unsupported { .. } | ModelError::Weights { .. } | ModelError::BadFile { .. }
        ));
        refusal.to_string()
    };
    for (key, value, word) in [
        ("model_type", json!("bert"), "ModernBertModel"),
        ("norm_bias", json!(true), "norm_bias"),
        ("hidden_activation", json!("silu"), "silu"),
        ("global_attn_every_n_layers", json!(2), "layer 2"),
        ("hidden_size", json!(50), "heads"),
        ("intermediate_size", json!(70), "shape"),
    ] {
        let said = refused(&|fixture| fixture.config[key] = value.clone());
        assert!(said.contains(word), "{said}");
    }
    let said = refused(&|fixture| fixture.tensors.retain(|t| t.name != "layers.2.attn_norm.weight"));
    assert!(said.contains("layers.2.attn_norm.weight is missing"), "{said}");
}
