//! Element by element, in one pass over memory: the gate of a feed-forward part and the sum of a residual stream.
//!
//! candle spreads such operations over a thread pool of its own, which would fight with the lane's for the cores.

use candle_core::{CpuStorage, D, Storage, Tensor};
use rayon::prelude::*;

use super::config::Activation;
use super::linear::with_values;

/// Below this many values a pass is done before another thread would have woken.
const PARALLEL_FROM: usize = 1 << 15;

/// `gate_up` is `[tokens, 2 · inner]`, gate first; returns `[tokens, inner]`. Every value is computed by itself, so
/// it does not depend on who shares the batch.
pub fn gated(gate_up: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    let (tokens, width) = gate_up.dims2()?;
    let inner = width / 2;
    let (storage, layout) = gate_up.storage_and_layout();
    let vectorised = matches!(activation, Activation::Silu | Activation::GeluTanh);
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(all)), Some((from, to))) if vectorised && has_vectors() => {
            let source = &all[from..to];
            let mut out = vec![0.0; tokens * inner];
            let row = |(source, out): (&[f32], &mut [f32])| {
                let (gate, up) = source.split_at(inner);
                one_row(gate, up, out, activation);
            };
            if out.len() < PARALLEL_FROM {
                source
                    .chunks_exact(width)
                    .zip(out.chunks_exact_mut(inner))
                    .for_each(row);
            } else {
                source
                    .par_chunks_exact(width)
                    .zip(out.par_chunks_exact_mut(inner))
                    .for_each(row);
            }
            Tensor::from_vec(out, (tokens, inner), gate_up.device())
        }
        _ => {
            let gate = gate_up.narrow(D::Minus1, 0, inner)?.contiguous()?;
            let up = gate_up.narrow(D::Minus1, inner, inner)?;
            let gate = match activation {
                Activation::Silu => gate.silu()?,
                Activation::GeluTanh => gate.gelu()?,
                Activation::GeluErf => gate.gelu_erf()?,
                Activation::Relu => gate.relu()?,
            };
            gate * up
        }
    }
}

/// `stream + scale · part`, both of one shape.
pub fn add_scaled(stream: &Tensor, part: &Tensor, scale: f32) -> candle_core::Result<Tensor> {
    let mut out = vec![0.0; stream.elem_count()];
    with_values(stream, |stream| {
        with_values(part, |part| {
            let sum = |(out, (stream, part)): (&mut [f32], (&[f32], &[f32]))| {
                for (out, (stream, part)) in out.iter_mut().zip(stream.iter().zip(part)) {
                    *out = stream + scale * part;
                }
            };
            if out.len() < PARALLEL_FROM {
                sum((&mut out, (stream, part)));
            } else {
                out.par_chunks_mut(PARALLEL_FROM / 4)
                    .zip(
                        stream
                            .par_chunks(PARALLEL_FROM / 4)
                            .zip(part.par_chunks(PARALLEL_FROM / 4)),
                    )
                    .for_each(sum);
            }
        })
    })??;
    Tensor::from_vec(out, stream.shape(), stream.device())
}

#[cfg(target_arch = "x86_64")]
fn has_vectors() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vectors() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn one_row(gate: &[f32], up: &[f32], out: &mut [f32], activation: Activation) {
    // SAFETY: only called where `has_vectors` found AVX2 and FMA.
    unsafe { one_row_avx2(gate, up, out, activation) }
}

#[cfg(not(target_arch = "x86_64"))]
fn one_row(_: &[f32], _: &[f32], _: &mut [f32], _: Activation) {
    unreachable!("only called where has_vectors() is true")
}

/// Plain loops that the compiler turns into AVX2 within this function.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn one_row_avx2(gate: &[f32], up: &[f32], out: &mut [f32], activation: Activation) {
    let values = out.iter_mut().zip(gate.iter().zip(up));
    if activation == Activation::Silu {
        for (out, (&gate, &up)) in values {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    } else {
        // 0.5·x·(1 + tanh(y)) = x / (1 + exp(−2y)), y = √(2/π)·(x + 0.044715·x³)
        const TWICE_ROOT: f32 = 2.0 * 0.797_884_6;
        for (out, (&gate, &up)) in values {
            let twice = TWICE_ROOT * (0.044_715 * gate * gate).mul_add(gate, gate);
            *out = gate / (1.0 + exp(-twice)) * up;
        }
    }
}

/// eˣ within two units of the last place: 2ⁿ · p(r), |r| ≤ ln 2 / 2. Inputs are held to where f32 has an answer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    // ln 2 in two parts, so that n · ln 2 loses nothing.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4_f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p.mul_add(r, coefficient);
    }
    let p = (p * r).mul_add(r, r) + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        let inner = 1003;
        let gate = |i: usize| (i as f64 - 500.0) * 0.07;
        let up = |i: usize| 1.0 + (i % 7) as f64;
        let row: Vec<f32> = (0..inner)
            .map(|i| gate(i) as f32)
            .chain((0..inner).map(|i| up(i) as f32))
            .collect();
        let gate_up = Tensor::from_vec(row, (1, 2 * inner), &Device::Cpu).unwrap();
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gelu = |x: f64| 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).tanh());
        let relu = |x: f64| x.max(0.0);
        let cases: [(Activation, &dyn Fn(f64) -> f64); 3] = [
            (Activation::Silu, &silu),
            (Activation::GeluTanh, &gelu),
            (Activation::Relu, &relu),
        ];
        for (activation, definition) in cases {
            let got = gated(&gate_up, activation).unwrap().to_vec2::<f32>().unwrap();
            for (i, got) in got[0].iter().enumerate() {
                let want = definition(f64::from(gate(i) as f32)) * up(i);
                assert!(
                    (f64::from(*got) - want).abs() < 1e-6 + 2e-6 * want.abs(),
                    "{activation:?} {i}: {got} {want}"
                );
            }
        }
    }
}
