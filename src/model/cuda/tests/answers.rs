//! Logits against transformers', for every architecture in both half floats.

use super::fixtures::{Fixture, Row, fixtures};
use crate::model::batch::Batch;
use crate::model::config::{FeedConfig, LayerConfig};
use crate::model::cuda::Half;
use crate::model::decoder::Decoder;

/// How far logits may be from f32's, as a share of their root mean square: weights and activations are rounded to eight
/// or eleven bits, layer after layer.
fn tolerance(half: Half) -> f32 {
    match half {
        Half::Bf16 => 0.06,
        Half::F16 => 0.01,
    }
}

/// Distance of root mean squares.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let difference = square(&mut got.iter().zip(want).map(|(g, w)| g - w));
    (difference / square(&mut want.iter().copied())).sqrt()
}

/// Whether rounding may send a token to another expert, after which its numbers are others.
fn chooses_experts(fixture: &Fixture) -> bool {
    let is_mixture = |layer: &LayerConfig| matches!(layer.feed, FeedConfig::Experts { .. });
    fixture.config().layers.iter().any(is_mixture)
}

fn compare(half: Half, steps: usize) {
    let mut seen = Vec::new();
    for fixture in fixtures() {
        let mut decoder = fixture.decoder(half);
        (0..6).for_each(|page| decoder.materialise_page(page));
        let mut row = Row::new(&fixture.prompt, &[5, 0, 3]);
        let mut distances = Vec::new();
        for (step, want) in fixture.greedy_logits.iter().take(steps).enumerate() {
            let mut batch = Batch::default();
            row.push(&mut batch, usize::MAX);
            let logits = decoder.forward(&batch).unwrap();
            distances.push(apart(logits.row(0), want));
            row.accept(fixture.greedy[step], &decoder);
        }
        distances.sort_by(f32::total_cmp);
        let last = distances.len() - 1;
        let found = if chooses_experts(&fixture) {
            // Half of the steps may be far off, the others three times as far as elsewhere.
            distances[last / 2] / 3.0
        } else {
            distances[last]
        };
        seen.push((fixture.name, found));
    }
    seen.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("{half:?}: {seen:?}");
    assert!(seen.len() >= 40, "{} fixtures", seen.len());
    assert!(seen[0].1 < tolerance(half), "{:?}", seen[0]);
}

#[test]
fn f16_logits_are_those_of_transformers() {
    compare(Half::F16, 6);
}

#[test]
fn bf16_logits_are_those_of_transformers() {
    compare(Half::Bf16, 3);
}
