use std::fs;
use std::path::Path;

use super::*;
use crate::energy::{CheckState, MeterCheck, Quantity, Source};
use crate::hub::Located;
use crate::model::inspect;
use crate::units::Watts;

/// A model folder: `config.json` changed by `change`, and bf16 weights of `rows` × 64.
fn folder(at: &Path, rows: u64, change: impl FnOnce(&mut serde_json::Value)) {
    fs::create_dir_all(at).unwrap();
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "intermediate_size": 96, "vocab_size": 100
    });
    change(&mut config);
    fs::write(at.join("config.json"), config.to_string()).unwrap();
    fs::write(at.join("tokenizer.json"), "{}").unwrap();
    let bytes = rows * 64 * 2;
    let head = json!({"w": {"dtype": "BF16", "shape": [rows, 64], "data_offsets": [0, bytes]}}).to_string();
    let mut file = (head.len() as u64).to_le_bytes().to_vec();
    file.extend(head.bytes());
    file.resize(file.len() + bytes as usize, 0);
    fs::write(at.join("model.safetensors"), file).unwrap();
}

fn plan(dir: &Path, more: &str) -> Result<Plan, CliError> {
    let text = format!("[[model]]\nname = \"a\"\nsource = \"path:m\"\n{more}");
    Plan::of(&Zoo::parse("zoo.toml", &text, dir).unwrap())
}

#[test]
fn sizes_come_from_the_heads_alone() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("m"), 100, |_| ());
    let plan = plan(dir.path(), "max_context = 256").unwrap();
    let place = &plan.models[0];
    assert_eq!((place.parameters, place.weight_bytes), (6400, 25_600));
    // 2 (keys, values) × 2 layers × 2 heads × 16 wide × 4 bytes
    assert_eq!(place.kv_bytes_per_token, 512);
    assert_eq!((place.max_context, place.kv_bytes), (256, 64 * 256 * 512));
    assert_eq!(place.dtype_text(), "bf16 → f32");
    assert_eq!(
        (plan.devices[0].weight_bytes, plan.devices[0].kv_bytes),
        (25_600, 64 * 256 * 512)
    );
}

#[test]
fn what_cannot_be_served_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let m = dir.path().join("m");
    type Change = fn(&mut serde_json::Value);
    let cases: &[(Change, &str, &str)] = &[
        (
            |c| c["architectures"] = json!(["GPT2LMHeadModel"]),
            "",
            "its architecture is GPT2LMHeadModel",
        ),
        (
            |c| c["num_hidden_layers"] = json!("two"),
            "",
            "num_hidden_layers is \"two\" where a size is wanted",
        ),
        (|_| (), "device = \"cuda:0\"", "`model.device` of 'a' is cuda:0"),
        (|_| (), "dtype = \"bf16\"", "`model.dtype` of 'a' is bf16"),
        (
            |_| (),
            "max_context = 513",
            "`model.max_context` of 'a' is 513, and the model was made for 512",
        ),
        (
            |_| (),
            "kv_cache = \"1KiB\"",
            "`model.kv_cache` of 'a' is 1.00 KiB",
        ),
    ];
    for (change, more, words) in cases {
        folder(&m, 10, change);
        let error = plan(dir.path(), more).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("zoo.toml:1: ") && said.contains(words), "{said}");
        assert_eq!(error.status(), 2);
    }
}

#[test]
fn published_shapes_have_their_published_parameters() {
    for shape in &crate::hub::PUBLISHED {
        let source = model_source(Located::Random(shape));
        let seen = inspect(&source).unwrap();
        assert_eq!(seen.parameters, shape.parameters, "{}", shape.name);
        assert_eq!(seen.stored_dtype, "bf16");
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "[[model]]\nname = \"a\"\nsource = \"random:qwen2.5-0.5b\"\nmax_context = 64\n";
    let zoo = Zoo::parse("zoo.toml", text, dir.path()).unwrap();
    let place = Plan::of(&zoo).unwrap().models.remove(0);
    assert_eq!(
        place.located,
        "random numbers in the shape of Qwen/Qwen2.5-0.5B-Instruct"
    );
    let zoo = Zoo::parse("zoo.toml", &text.replace("0.5b", "0.6b"), dir.path()).unwrap();
    let said = Plan::of(&zoo).unwrap_err().to_string();
    assert!(
        said.contains("no shape is called 'qwen2.5-0.6b'") && said.contains("llama-3.1-8b"),
        "{said}"
    );
}

#[test]
fn broken_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let m = dir.path().join("m");
    folder(&m, 10, |_| ());
    let path = m.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for (bytes, words) in [
        (&whole[..whole.len() - 1], "and has "),
        (&whole[..40], "not safetensors"),
        (&whole[..3], "not safetensors"),
        (&[][..], "not safetensors"),
        (&pointer[..], "git lfs pull"),
    ] {
        fs::write(&path, bytes).unwrap();
        let said = plan(dir.path(), "").unwrap_err().to_string();
        assert!(
            said.contains("model.safetensors that") && said.contains(words),
            "{said}"
        );
    }
}

#[test]
fn a_zoo_too_big_for_memory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("m"), 10, |_| ());
    let text = "[[model]]\nname = \"a\"\nsource = \"path:m\"\n[[model]]\nname = \"b\"\nsource = \"path:m\"\n";
    let zoo = Zoo::parse("zoo.toml", text, dir.path()).unwrap();
    let mut plan = Plan::of(&zoo).unwrap();
    let one = plan.models[0].weight_bytes + plan.models[0].kv_bytes;
    plan.devices[0].free_bytes = Some(2 * one);
    plan.refuse_what_does_not_fit(&zoo).unwrap();
    plan.devices[0].free_bytes = Some(2 * one - 1);
    let said = plan.refuse_what_does_not_fit(&zoo).unwrap_err().to_string();
    assert!(
        said.starts_with("zoo.toml:4: `model.source` of 'b' does not fit"),
        "{said}"
    );
    plan.devices[0].free_bytes = None;
    plan.refuse_what_does_not_fit(&zoo).unwrap();
}

fn board() -> MeterInspection {
    MeterInspection {
        lane: "cuda:0".into(),
        meter: "NVML total energy counter of H100".into(),
        source: Source::Nvml,
        check: MeterCheck {
            state: CheckState::FellBack,
            quantity: Quantity::PowerIntegrated,
            update_period_ms: Some(100.2),
            implied_watts: None,
            power_ratio: None,
            watts_now: Some(Watts(71.5)),
            power_limit_watts: Some(Watts(700.0)),
            board: Some("H100".into()),
            uuid: Some("GPU-1b2c-3d4e-5f".into()),
            words: "the counter stood still".into(),
            notes: vec!["MIG is on".into()],
        },
    }
}

#[test]
fn the_demo_zoo_is_told_in_tables_and_json() {
    let zoo = Zoo::load(None).unwrap();
    let plan = Plan::of(&zoo).unwrap();
    let meters = [board()];
    let tables = as_tables(&zoo, &plan, &meters);
    for words in [
        "demo-small",
        "demo:large",
        "built in",
        "MiB",
        "meter: cuda:0: NVML total energy counter of H100",
        "H100, GPU-1b2c",
        "power-integrated",
        "100.2 ms",
        "71.5 W",
        "700.0 W",
        "cuda:0: MIG is on",
        "default 0.8",
    ] {
        assert!(tables.contains(words), "{tables}");
    }
    let report: serde_json::Value = serde_json::from_str(&as_json(&zoo, &plan, &meters, None)).unwrap();
    assert_eq!(report["meter"], "cuda:0: NVML total energy counter of H100");
    assert_eq!(report["meters"][0]["meter_check"]["quantity"], "power-integrated");
    assert_eq!(report["meters"][0]["meter_check"]["update_period_ms"], 100.2);
    assert_eq!(report["models"][2]["name"], "demo-large");
    let total: u64 = report["models"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["weight_bytes"].as_u64())
        .sum();
    assert_eq!(report["devices"][0]["weight_bytes"], total);
}

#[test]
fn counts_read_well() {
    for (count, text) in [
        (999, "999"),
        (123_456, "123 k"),
        (494_032_768, "494.0 M"),
        (7_615_616_512, "7.62 B"),
    ] {
        assert_eq!(count_text(count), text);
    }
}

/// The zoo files of the repository are planned without weights and without a network, on whatever machine.
#[test]
fn every_zoo_file_is_planned_before_anything_is_fetched() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let is_toml = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "toml");
    let files = fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for path in files.filter(is_toml) {
        let zoo = Zoo::load(Some(&path)).unwrap();
        let plan = Plan::before_fetching(&zoo).unwrap();
        let misfit = plan.refuse_what_does_not_fit(&zoo).err();
        let tables = as_tables(&zoo, &plan, &[board()]);
        let report: serde_json::Value =
            serde_json::from_str(&as_json(&zoo, &plan, &[board()], misfit.as_ref())).unwrap();
        assert_eq!(report["fits"], misfit.is_none());
        for (model, row) in zoo.models.iter().zip(report["models"].as_array().unwrap()) {
            assert!(tables.contains(&model.source.to_string()), "{tables}");
            if row["fetched"] == false {
                assert!(
                    row["located"].as_str().unwrap().contains("by published shape"),
                    "{row}"
                );
            }
            for size in ["parameters", "weight_bytes", "kv_bytes_per_token", "kv_bytes"] {
                assert!(row[size].as_u64().unwrap() > 0, "{row}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen} zoo files");
}

#[test]
fn published_shapes_have_the_published_sizes() {
    for shape in &crate::hub::PUBLISHED {
        let config = serde_json::from_str(shape.config).unwrap();
        let seen = crate::model::inspect_config(shape.repo, &config).unwrap();
        assert_eq!(seen.parameters, shape.parameters, "{}", shape.name);
        assert_eq!(seen.stored_dtype, "bf16");
    }
}

/// What is not fetched can be planned and not served, and a model that nobody published is refused with the mend.
#[test]
fn only_check_plans_before_fetching() {
    let text =
        "[[model]]\nname = \"a\"\nsource = \"hf:Qwen/Qwen3-0.6B@no-such-revision\"\nmax_context = 1024\n";
    let zoo = |text: &str| Zoo::parse("zoo.toml", text, Path::new("")).unwrap();
    let plan = Plan::before_fetching(&zoo(text)).unwrap();
    let place = &plan.models[0];
    assert!(!plan.is_fetched() && !place.fetched);
    assert_eq!(
        (place.parameters, place.weight_bytes),
        (596_049_920, 4 * 596_049_920)
    );
    // 2 (keys, values) × 28 layers × 8 heads × 128 wide × 4 bytes
    assert_eq!(place.kv_bytes_per_token, 229_376);
    for refused in [
        Plan::of(&zoo(text)),
        Plan::before_fetching(&zoo(&text.replace("Qwen3-0.6B", "Qwen9-0.6B"))),
        Plan::before_fetching(&zoo(&text.replace("revision", "revision:q8_0.gguf"))),
    ] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("messplus pull hf:Qwen/"), "{said}");
    }
}
