//! Time of one step by batch size: `cargo bench --bench step`. With `MESSPLUS_BENCH_MODEL=FILE.gguf` (or a folder)
//! that model is measured, else a random one of 29 M parameters.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use messplus::model::{Batch, Compute, LoadedModel, ModelSource, PAGE_TOKENS, Precision, load};
use messplus::units::TokenId;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

const CONTEXT: usize = 256;

fn batches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let source = match std::env::var_os("MESSPLUS_BENCH_MODEL") {
        Some(path) if Path::new(&path).is_dir() => ModelSource::Folder(PathBuf::from(path)),
        Some(path) => ModelSource::Gguf(PathBuf::from(path)),
        None => {
            write_random(folder.path());
            ModelSource::Folder(folder.path().to_owned())
        }
    };
    let mut model = load(&source, Compute::Cpu, Precision::Auto).expect("the model loads");

    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20);
    for rows in [1, 2, 4, 8, 16, 32, 64] {
        let batch = decode_batch(&mut model, rows);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_with_input(BenchmarkId::from_parameter(rows), &batch, |bencher, batch| {
            bencher.iter(|| black_box(model.decoder.forward(batch).expect("a step computes")));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(10);
    for tokens in [32, 256] {
        let batch = prompt(&mut model, tokens, 0);
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_with_input(BenchmarkId::from_parameter(tokens), &batch, |bencher, batch| {
            bencher.iter(|| black_box(model.decoder.forward(batch).expect("a step computes")));
        });
    }
    group.finish();
}

fn pages_of(model: &mut LoadedModel, row: usize) -> Vec<u32> {
    let count = (CONTEXT + 1).div_ceil(PAGE_TOKENS);
    let pages: Vec<u32> = (0..count).map(|page| (row * count + page) as u32).collect();
    pages
        .iter()
        .for_each(|page| model.decoder.materialise_page(*page));
    pages
}

fn prompt(model: &mut LoadedModel, tokens: usize, row: usize) -> Batch {
    let pages = pages_of(model, row);
    let ids: Vec<TokenId> = (0..tokens)
        .map(|i| TokenId(((i * 7919 + row) % model.vocabulary) as u32))
        .collect();
    let mut batch = Batch::default();
    batch.push(&ids, 0, tokens, &pages, true);
    batch
}

/// One more token for each of `rows` sequences of 256.
fn decode_batch(model: &mut LoadedModel, rows: usize) -> Batch {
    let mut batch = Batch::default();
    for row in 0..rows {
        let fill = prompt(model, CONTEXT, row);
        model.decoder.forward(&fill).expect("a prompt computes");
        let pages = pages_of(model, row);
        batch.push(&[TokenId(row as u32)], CONTEXT, CONTEXT, &pages, true);
    }
    batch
}

/// A Llama of 29 M random parameters as a Hugging Face folder.
fn write_random(folder: &Path) {
    let (hidden, inner, layers, vocabulary, kv_width) = (512, 1408, 8, 8192, 128);
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        for (part, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv_width, hidden]),
            ("self_attn.v_proj", vec![kv_width, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            shapes.push((format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.05
    };
    let values: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product())
                .flat_map(|_| random().to_le_bytes())
                .collect()
        })
        .collect();
    let views = shapes.iter().zip(&values).map(|((name, shape), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("bytes fit the shape");
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))
        .expect("weights are written");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": vocabulary,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("the config is written");
    let words: serde_json::Map<_, _> = (0..vocabulary).map(|id| (format!("w{id}"), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("the tokenizer is written");
}

criterion_group!(benches, batches);
criterion_main!(benches);
