//! The plan of memory holds, and what does not fit is refused in one sentence.

use std::sync::Arc;

use super::fixtures::{fixture, on};
use crate::model::batch::Batch;
use crate::model::cuda::budget::{MemoryPlan, page_shape};
use crate::model::cuda::emulated::Emulated;
use crate::model::cuda::{Arena, CudaDecoder, Device, Half, Limits};
use crate::model::decoder::Decoder;
use crate::model::hardware::{Hardware, HostedModel};
use crate::model::load::{Compute, ModelSource, Precision};
use crate::model::random::RandomShape;

use super::fixtures::Row;

#[test]
fn what_is_taken_is_what_was_planned() {
    for name in ["llama-1", "qwen3moe-1", "gemma2-1", "phi3-4"] {
        let fixture = fixture(name);
        let (weights, _folder) = fixture.weights();
        let config = fixture.config();
        let limits = Limits {
            tokens: 160,
            rows: 8,
            context: config.max_positions,
        };
        let plan = MemoryPlan::of(&config, &weights, limits);
        let emulated = Arc::new(Emulated::default());
        let device: Arc<dyn Device> = emulated.clone();
        on(&device, &fixture, Half::Bf16);
        let pages = 16 * page_shape(&config).room();
        let passage = page_shape(&config).bytes;
        let planned = plan.weights + plan.workspace + pages + passage;
        let took = emulated.most_in_use();
        assert!(took <= planned, "{name}: {took} of {planned} bytes");
        assert!(planned - took < planned / 4, "{name}: {took} of {planned} bytes");
    }
}

#[test]
fn too_little_memory_is_an_error_that_leaves_the_device_as_it_was() {
    let fixture = fixture("llama-1");
    let (weights, _folder) = fixture.weights();
    let mut refused = 0;
    for bytes in (1..60).map(|n| n * 100_000) {
        let emulated = Arc::new(Emulated::with_bytes(bytes));
        let device: Arc<dyn Device> = emulated.clone();
        let Ok(arena) = Arena::new(&device, 500_000) else {
            continue;
        };
        let limits = Limits {
            tokens: 160,
            rows: 8,
            context: 128,
        };
        let loaded = CudaDecoder::load(
            &device,
            &Arc::new(arena),
            fixture.config(),
            &weights,
            Half::F16,
            limits,
        );
        if let Err(error) = loaded {
            refused += 1;
            let text = error.to_string();
            assert!(text.contains("MiB left for"), "{text}");
            assert!(!text.contains('\n'));
        } else {
            drop(loaded);
        }
        assert_eq!(emulated.in_use(), 0);
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn heads_too_wide_for_a_gpu_are_refused_before_memory_is_taken() {
    let fixture = fixture("llama-1");
    let (weights, _folder) = fixture.weights();
    // Too little for any head.
    let mut emulated = Emulated::default();
    emulated.most_shared = 40 << 10;
    let emulated = Arc::new(emulated);
    let device: Arc<dyn Device> = emulated.clone();
    let arena = Arc::new(Arena::new(&device, 100_000).unwrap());
    let limits = Limits {
        tokens: 160,
        rows: 8,
        context: 128,
    };
    let loaded = CudaDecoder::load(&device, &arena, fixture.config(), &weights, Half::F16, limits);
    let text = loaded.err().unwrap().to_string();
    assert!(
        text.contains("has 40 KiB of shared memory") && text.contains("takes 48"),
        "{text}"
    );
    assert_eq!(emulated.in_use(), 100_000);
}

#[test]
fn a_step_larger_than_its_memory_is_refused() {
    let fixture = fixture("llama-1");
    let mut decoder = fixture.decoder(Half::F16);
    (0..16).for_each(|page| decoder.materialise_page(page));
    let mut batch = Batch::default();
    for page in 0..9u32 {
        Row::new(&[1, 2], &[page]).push(&mut batch, usize::MAX);
    }
    let error = decoder.forward(&batch).unwrap_err().to_string();
    assert!(error.contains("9 sequences"), "{error}");
    let mut batch = Batch::default();
    Row::new(&[1, 2], &[0]).push(&mut batch, usize::MAX);
    assert!(decoder.forward(&batch).is_ok(), "the next step is computed");
}

#[test]
fn a_page_without_memory_fails_the_step_alone() {
    let fixture = fixture("llama-1");
    let mut decoder = fixture.decoder(Half::F16);
    let mut batch = Batch::default();
    Row::new(&[1, 2], &[0]).push(&mut batch, usize::MAX);
    assert!(decoder.forward(&batch).is_err());
    decoder.materialise_page(0);
    assert!(decoder.forward(&batch).is_ok());
}

const TINY: RandomShape = RandomShape {
    name: "tiny",
    config: r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 300,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "eos_token_id": 299}"#,
};

fn tiny(precision: Precision) -> HostedModel {
    HostedModel {
        source: ModelSource::Random(TINY),
        precision,
        max_context: None,
    }
}

#[test]
fn random_weights_are_the_same_on_every_device() {
    let hosted = [tiny(Precision::F16)];
    let cuda = Hardware::open(Compute::Cuda(0), &hosted, 1 << 20, 64, 4).unwrap();
    let mut there = cuda.load(&hosted[0]).unwrap();
    let cpu = Hardware::open(Compute::Cpu, &[], 0, 64, 4).unwrap();
    let mut here = cpu.load(&tiny(Precision::Auto)).unwrap();
    assert_eq!(there.parameters, here.parameters);
    assert_eq!(
        (there.precision.as_str(), here.precision.as_str()),
        ("f16", "f32")
    );
    let prompt = here.tokenizer.encode("What is 17 + 25?", true).unwrap();
    let mut batch = Batch::default();
    batch.push(&prompt, 0, prompt.len(), &[0], true);
    for model in [&mut there, &mut here] {
        model.decoder.materialise_page(0);
    }
    let there = there.decoder.forward(&batch).unwrap();
    let here = here.decoder.forward(&batch).unwrap();
    let scale = here.row(0).iter().fold(0f32, |a, b| a.max(b.abs()));
    for (there, here) in there.row(0).iter().zip(here.row(0)) {
        assert!((there - here).abs() < 0.02 * scale, "{there} {here}");
    }
}

#[test]
fn what_a_cuda_device_does_not_compute_is_refused_before_anything_loads() {
    let open = |model: HostedModel, kv: u64| match Hardware::open(Compute::Cuda(0), &[model], kv, 64, 4) {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.to_string(),
    };
    assert!(open(tiny(Precision::F32), 1 << 20).contains("f32 is not computed on a CUDA device"));
    let alone = RandomShape {
        name: "alone",
        config: r#"{"architectures": ["StableLmForCausalLM"]}"#,
    };
    let alone = HostedModel {
        source: ModelSource::Random(alone),
        ..tiny(Precision::Auto)
    };
    assert!(open(alone, 1 << 20).contains("StableLmForCausalLM is computed on the CPU only"));
    let error = open(tiny(Precision::Auto), 1 << 40);
    assert!(
        error.contains("MiB free") && error.contains("lower kv_cache"),
        "{error}"
    );
}
