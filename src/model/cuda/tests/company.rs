//! A row is the same bits alone, in company, by graphs and without them.

use std::sync::Arc;

use super::fixtures::{Fixture, Row, fixture, fixtures, highest, on};
use crate::model::batch::Batch;
use crate::model::choice::Choice;
use crate::model::cuda::emulated::Emulated;
use crate::model::cuda::{CudaDecoder, Device, Half};
use crate::model::decoder::Decoder;

/// Greedy steps of the prompt in chunks of up to `chunk` tokens.
fn alone(decoder: &mut CudaDecoder, fixture: &Fixture, chunk: usize, steps: usize) -> Vec<Vec<f32>> {
    (0..12).for_each(|page| decoder.materialise_page(page));
    let mut row = Row::new(&fixture.prompt, &[9, 2, 4]);
    let mut seen = Vec::new();
    while seen.len() < steps {
        let mut batch = Batch::default();
        let complete = row.push(&mut batch, chunk);
        let logits = decoder.forward(&batch).unwrap();
        if complete {
            row.accept(highest(logits.row(0)), decoder);
            seen.push(logits.row(0).to_vec());
        }
    }
    seen
}

#[test]
fn a_row_in_company_is_the_row_alone_to_the_bit() {
    // Two of a family: what sets them apart is the number of heads and the kind of rope.
    for fixture in fixtures()
        .into_iter()
        .filter(|fixture| fixture.name.ends_with(['1', '3']))
    {
        let steps = fixture.greedy.len().min(6);
        let want = alone(&mut fixture.decoder(Half::F16), &fixture, 11, steps);
        let mut decoder = fixture.decoder(Half::F16);
        (0..12).for_each(|page| decoder.materialise_page(page));
        let mut row = Row::new(&fixture.prompt, &[9, 2, 4]);
        let reversed: Vec<u32> = fixture.prompt.iter().rev().copied().collect();
        let mut neighbour = Row::new(&reversed[..37], &[1, 0, 8]);
        let mut late = Row::new(&fixture.prompt[3..20], &[7, 3, 6]);
        let (mut step, mut round) = (0, 0);
        while step < steps {
            let mut batch = Batch::default();
            if round > 3 {
                late.push(&mut batch, 5);
                late.accept(round % 7, &decoder);
            }
            let complete = row.push(&mut batch, 11);
            let mine = batch.logit_rows.len().wrapping_sub(1);
            if round < 12 {
                neighbour.push(&mut batch, 13);
                neighbour.accept(round % 5, &decoder);
            }
            let logits = decoder.forward(&batch).unwrap();
            if complete {
                assert_eq!(logits.row(mine), want[step], "{}, step {step}", fixture.name);
                row.accept(highest(logits.row(mine)), &decoder);
                step += 1;
            }
            round += 1;
        }
    }
}

#[test]
fn a_replayed_graph_is_the_step_computed_anew() {
    for name in [
        "llama-1",
        "qwen3-1",
        "gemma2-1",
        "qwen3moe-1",
        "llama-3",
        "phi3-4",
    ] {
        let fixture = fixture(name);
        let steps = fixture.greedy.len();
        let mut decoder = fixture.decoder(Half::Bf16);
        let by_graphs = alone(&mut decoder, &fixture, 64, steps);
        assert!(decoder.graphs_captured() > 0, "{name}: no graph was captured");
        let mut decoder = fixture.decoder(Half::Bf16);
        decoder.captures = false;
        let anew = alone(&mut decoder, &fixture, 64, steps);
        assert_eq!(decoder.graphs_captured(), 0);
        assert_eq!(by_graphs, anew, "{name}");
    }
}

/// The same graph serves rows of other lengths in other pages, padded or not.
#[test]
fn graphs_hold_nothing_of_the_step_they_were_captured_from() {
    let fixture = fixture("gemma3-1");
    let device = Arc::new(Emulated::default());
    let shared: Arc<dyn Device> = device.clone();
    let mut decoder = on(&shared, &fixture, Half::F16);
    let mut plain = fixture.decoder(Half::F16);
    plain.captures = false;
    for decoder in [&mut decoder, &mut plain] {
        (0..16).for_each(|page| decoder.materialise_page(page));
    }
    let prompt = &fixture.prompt;
    let mut rows = [
        Row::new(&prompt[..40], &[3, 1, 12]),
        Row::new(&prompt[5..9], &[0, 13, 14]),
        Row::new(&prompt[2..30], &[6, 5, 4]),
    ];
    let mut batch = Batch::default();
    for row in &mut rows {
        row.push(&mut batch, usize::MAX);
    }
    let mut logits = decoder.forward(&batch).unwrap();
    assert_eq!(plain.forward(&batch).unwrap(), logits);
    for step in 0..9 {
        // Who is there changes, and so does the order.
        let present: Vec<usize> = match step % 3 {
            0 => vec![0, 1, 2],
            1 => vec![2, 0, 1],
            _ => vec![1, 2, 0],
        };
        let mut batch = Batch::default();
        for (place, &at) in present.iter().enumerate() {
            let token = (highest(logits.row(place)) + at as u32) % 90;
            rows[at].accept(token, &decoder);
            rows[at].push(&mut batch, 1);
        }
        logits = decoder.forward(&batch).unwrap();
        assert_eq!(plain.forward(&batch).unwrap(), logits, "step {step}");
    }
    assert!(device.counts().1 >= 6, "graphs were not replayed");
    assert_eq!(decoder.graphs_captured(), 1);
}

fn greedy() -> Choice<'static> {
    Choice {
        temperature: 0.0,
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 0,
        position: 0,
        history: &[],
        biases: &[],
    }
}

#[test]
fn tokens_are_drawn_where_asked_and_logits_come_back_where_not() {
    let fixture = fixture("qwen2-1");
    let mut decoder = fixture.decoder(Half::F16);
    (0..12).for_each(|page| decoder.materialise_page(page));
    let mut rows = [
        Row::new(&fixture.prompt[..20], &[0, 1]),
        Row::new(&fixture.prompt[1..9], &[2, 3]),
        Row::new(&fixture.prompt[..1], &[4, 5]),
    ];
    let mut batch = Batch::default();
    for row in &mut rows {
        row.push(&mut batch, usize::MAX);
    }
    let whole = decoder.forward(&batch).unwrap();
    let forbidden = highest(whole.row(2));
    let biases = [(crate::units::TokenId(forbidden), f32::NEG_INFINITY)];
    let choices = [
        Some(greedy()),
        None,
        Some(Choice {
            biases: &biases,
            ..greedy()
        }),
    ];
    let mixed = decoder.forward_drawing(&batch, &choices).unwrap();
    assert_eq!(mixed.rows(), 3);
    assert_eq!(mixed.token(0).unwrap().0, highest(whole.row(0)));
    assert_eq!(mixed.token(1), None);
    assert_eq!(mixed.row(1), whole.row(1));
    let mut rest = whole.row(2).to_vec();
    rest[forbidden as usize] = f32::NEG_INFINITY;
    assert_eq!(mixed.token(2).unwrap().0, highest(&rest));
}

#[test]
fn hidden_states_are_those_that_the_head_reads() {
    let fixture = fixture("llama-1");
    let mut decoder = fixture.decoder(Half::F16);
    (0..3).for_each(|page| decoder.materialise_page(page));
    let mut batch = Batch::default();
    Row::new(&fixture.prompt[..30], &[0]).push(&mut batch, usize::MAX);
    batch.want_hidden();
    let logits = decoder.forward(&batch).unwrap();
    let head: Vec<f32> = fixture.tensor("lm_head.weight");
    let state = logits.hidden_row(0);
    for (row, logit) in head.chunks_exact(state.len()).zip(logits.row(0)) {
        let product: f32 = row.iter().zip(state).map(|(w, s)| w * s).sum();
        assert!((product - logit).abs() < 0.02, "{product} {logit}");
    }
}
