//! What a lane costs beside its forward passes.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use messplus::engine::bench::{BusyLane, KnownPrompt, sample};
use messplus::engine::{Compute, ModelSource, Precision, Sampling};
use messplus::model::{Detokenizer, Tokenizer, load};
use messplus::units::TokenId;

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/small");
    let model = load(&ModelSource::Folder(folder), Compute::Cpu, Precision::Auto);
    model.expect("the demo zoo is part of the repository").tokenizer
}

fn steps(c: &mut Criterion) {
    for rows in [1, 8, 64] {
        let mut lane = BusyLane::new(rows, tokenizer());
        c.bench_function(&format!("step without forward, {rows} rows"), |b| {
            b.iter_custom(|turns| (0..turns).map(|_| lane.turn()).sum::<Duration>());
        });
    }
}

fn prefix(c: &mut Criterion) {
    let known = KnownPrompt::new(2000);
    c.bench_function("prefix look-up, 2000 tokens", |b| b.iter(|| known.look_up()));
}

/// Logits as a model's are: most tokens unlikely, a few likely, in no order.
fn logits(vocabulary: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..vocabulary)
        .map(|_| 4.0 * (draw() + draw() + draw()) + 8.0 * draw().powi(20))
        .collect()
}

fn sampler(c: &mut Criterion) {
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let nucleus = Sampling {
        temperature: 0.8,
        top_p: 0.9,
        ..Sampling::default()
    };
    let top = Sampling {
        temperature: 0.8,
        top_k: 40,
        ..Sampling::default()
    };
    for vocabulary in [32_000, 152_000] {
        let mut logits = logits(vocabulary);
        for (name, sampling) in [("greedy", &greedy), ("top-p 0.9", &nucleus), ("top-k 40", &top)] {
            let mut position = 0;
            c.bench_function(&format!("sampler, {name}, vocabulary {vocabulary}"), |b| {
                b.iter(|| {
                    position += 1;
                    sample(black_box(&mut logits), sampling, position)
                });
            });
        }
    }
}

fn detokenizer(c: &mut Criterion) {
    let tokenizer = tokenizer();
    let text = "The quick brown fox jumps over the lazy dog, and then it rests for a while. ";
    let tokens: Vec<TokenId> = tokenizer
        .encode(text, false)
        .expect("plain words are in the vocabulary");
    let mut detokenizer = Detokenizer::default();
    let mut next = tokens.iter().cycle();
    c.bench_function("detokenizer, one token", |b| {
        b.iter(|| detokenizer.push(&tokenizer, *next.next().expect("a cycle has no end")));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = steps, prefix, sampler, detokenizer
}
criterion_main!(benches);
