//! The whole check on a device whose kernels run on the CPU, with models of a few thousand parameters.

use std::time::Duration;

use super::*;

const SHAPES: [RandomShape; 3] = [
    RandomShape {
        name: "small",
        config: r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
            "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 270,
            "max_position_embeddings": 256, "tie_word_embeddings": true, "eos_token_id": 269}"#,
    },
    RandomShape {
        name: "middle",
        config: r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "intermediate_size": 64,
            "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 2, "vocab_size": 280,
            "max_position_embeddings": 256, "eos_token_id": 279}"#,
    },
    RandomShape {
        name: "large",
        config: r#"{"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "head_dim": 32,
            "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 290,
            "max_position_embeddings": 256, "eos_token_id": 289}"#,
    },
];

fn tiny() -> Scale {
    let [small, middle, large] = SHAPES;
    Scale {
        cases: 1,
        large_cases: false,
        kernel_time: Duration::from_secs(600),
        copy_bytes: 1 << 16,
        matrix: 16,
        roofline_time: Duration::from_millis(1),
        company: 5,
        streams: 3,
        context: 96,
        short: 10,
        long_context: 40,
        steps: 4,
        prompt: 80,
        step_tokens: 32,
        rows: 4,
        kv_bytes: 3 << 20,
        hosted_context: 64,
        requests: 2,
        prompt_tokens: 6,
        output_tokens: 4,
        batches: vec![1, 2],
        idle: Duration::from_millis(10),
        ..Scale::of_a_gpu(small, middle, large)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_runs_and_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let (json, peer) = (folder.path().join("out.json"), folder.path().join("peer.json"));
    let told =
        json!({"decode_1": {"tokens_per_second": 1e-3}, "decode_64": {"error": "it has no such thing"}});
    std::fs::write(&peer, told.to_string()).unwrap();
    let args = GpuCheckArgs {
        device: 0,
        minutes: 60.0,
        json: Some(json.clone()),
        peer: Some(peer),
    };
    // Bars are a GPU's: some of them are missed here.
    let _ = check(&args, &tiny()).await;
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let row = |what: &str| {
        let found = rows
            .iter()
            .find(|row| row["what"].as_str().unwrap().contains(what));
        found.unwrap_or_else(|| panic!("no row says {what}: {report:#}"))
    };
    for what in [
        "kernel decode_attention",
        "kernel embed",
        "a row alone and among 5, small, bf16",
    ] {
        assert_eq!(row(what)["verdict"], "passed", "{:#}", row(what));
    }
    for what in [
        "copy within",
        "product of",
        "decode, one stream",
        "decode, 3 streams",
        "prefill, 80",
        "host time",
    ] {
        assert!(!row(what)["numbers"].as_object().unwrap().is_empty(), "{what}");
    }
    for what in [
        "at rest",
        "joules, small, batch 1",
        "joules, middle, batch 2",
        "mixed traffic",
        "accounts against",
    ] {
        assert!(
            row(what)["found"].as_str().is_some_and(|found| !found.is_empty()),
            "{what}"
        );
    }
    assert_eq!(row("one stream against")["verdict"], "passed");
    assert_eq!(row("64 streams against")["verdict"], "cut");
    assert_eq!(row("64 streams against")["found"], "it has no such thing");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_without_time_are_cut_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let args = GpuCheckArgs {
        device: 0,
        minutes: 0.0,
        json: Some(json.clone()),
        peer: None,
    };
    check(&args, &tiny()).await.unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let cut = rows.iter().filter(|row| row["verdict"] == "cut").count();
    assert_eq!(cut, 4, "{report:#}");
}
