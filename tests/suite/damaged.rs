//! Damaged and hostile model files: one sentence before anything is served, never a panic.

use std::path::Path;

use messplus::model::{Compute, ModelSource, Precision, inspect, load};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::architectures::write_model;
use crate::support::root;

fn model(folder: &Path) {
    write_model(&root().join("tests/fixtures/arch/llama-1.json"), folder);
}

/// The refusal of a folder, which must be one sentence.
fn refusal(folder: &Path) -> String {
    let loaded = load(
        &ModelSource::Folder(folder.to_owned()),
        Compute::Cpu,
        Precision::Auto,
    );
    let said = loaded.err().expect("it is refused").to_string();
    assert!(!said.contains('\n') && said.len() < 600, "{said}");
    said
}

fn change_json(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// Rewrites the header of a safetensors file.
fn change_header(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    let header = header.to_string().into_bytes();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(&header);
    out.extend(&bytes[8 + length..]);
    std::fs::write(path, out).unwrap();
}

#[test]
fn truncated_weights_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for keep in [0, 3, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        assert!(refusal(dir.path()).contains("model.safetensors"), "{keep} bytes");
        assert!(inspect(&ModelSource::Folder(dir.path().to_owned())).is_err());
    }
}

#[test]
fn tensors_missing_or_of_another_shape_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let name = "model.layers.0.self_attn.k_proj.weight";
    model(dir.path());
    change_header(dir.path(), |header| {
        let shape = &mut header[name]["shape"];
        *shape = json!([shape[1], shape[0]]);
    });
    assert!(refusal(dir.path()).contains(name));
    model(dir.path());
    change_header(dir.path(), |header| {
        let taken = header.as_object_mut().unwrap().remove(name).unwrap();
        header["something.else"] = taken;
    });
    let said = refusal(dir.path());
    assert!(said.contains(name) && said.contains("missing"), "{said}");
}

#[test]
fn a_shard_that_is_missing_or_lies_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    for (shard, words) in [
        ("model-00002.safetensors", "model-00002"),
        ("../../etc/passwd", "weight_map"),
    ] {
        let index = json!({"weight_map": {"a": "model.safetensors", "b": shard}});
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        assert!(refusal(dir.path()).contains(words), "{shard}");
    }
}

#[test]
fn a_tokenizer_past_the_vocabulary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    change_json(dir.path(), "tokenizer.json", |t| {
        t["model"]["vocab"]["more"] = 5000.into()
    });
    let said = refusal(dir.path());
    assert!(said.contains("tokenizer.json") && said.contains("5000"), "{said}");
}

#[test]
fn a_template_that_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    for template in [
        "{% for m in messages %}",
        "{{ messages[7].content.upper() }}",
        "{{ 1 + }}",
    ] {
        let config = json!({"chat_template": template}).to_string();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        assert!(refusal(dir.path()).contains("chat_template"), "{template}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any one field of a config set to nonsense: loading succeeds or refuses, and does not allocate what the files
    /// do not hold.
    #[test]
    fn a_config_with_any_field_broken_never_panics(
        field in 0usize..40,
        value in prop_oneof![
            Just(Value::Null), Just(json!(0)), Just(json!(-1)), Just(json!(7)), Just(json!(2_147_483_648u64)),
            Just(json!(u64::MAX)), Just(json!(1e300)), Just(json!("x")), Just(json!([])), Just(json!({})), Just(json!(true)),
        ],
        fixture in prop::sample::select(vec!["llama-2", "phi3-2", "gemma3-1", "qwen3moe-1", "smollm3-1"]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        write_model(&root().join(format!("tests/fixtures/arch/{fixture}.json")), dir.path());
        change_json(dir.path(), "config.json", |config| {
            let fields = config.as_object_mut().unwrap();
            let key = fields.keys().nth(field % fields.len()).unwrap().clone();
            fields[&key] = value;
        });
        let source = ModelSource::Folder(dir.path().to_owned());
        let loaded = load(&source, Compute::Cpu, Precision::Auto);
        if let Err(refused) = loaded {
            prop_assert!(!refused.to_string().contains('\n'), "{refused}");
        }
        let _ = inspect(&source);
    }
}
