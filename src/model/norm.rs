//! Root-mean-square norm.

use candle_core::Tensor;
use rayon::prelude::*;

use super::ModelError;
use super::config::DecoderConfig;
use super::linear::with_values;
use super::weights::Weights;

/// Below this many values a pass is done before another thread would have woken.
const PARALLEL_FROM: usize = 1 << 15;

/// `x / rms(x) · weight` over pieces of the weight's width.
pub struct Norm {
    weight: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub fn load(
        weights: &Weights,
        config: &DecoderConfig,
        name: &str,
        width: usize,
    ) -> Result<Self, ModelError> {
        let mut weight = weights
            .tensor(&format!("{name}.weight"), &[width])?
            .to_vec1::<f32>()?;
        for weight in &mut weight {
            *weight += config.norm_offset;
        }
        Ok(Self {
            weight,
            eps: config.norm_eps as f32,
        })
    }

    /// `x` is `[tokens, width]`, as is the result.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let width = self.weight.len();
        let mut out = vec![0.0; x.elem_count()];
        with_values(x, |x| {
            let row = |(x, out): (&[f32], &mut [f32])| {
                let inverse = self.inverse(x);
                for ((out, x), weight) in out.iter_mut().zip(x).zip(&self.weight) {
                    *out = x * inverse * weight;
                }
            };
            if x.len() < PARALLEL_FROM {
                x.chunks_exact(width)
                    .zip(out.chunks_exact_mut(width))
                    .for_each(row);
            } else {
                x.par_chunks_exact(width)
                    .zip(out.par_chunks_exact_mut(width))
                    .for_each(row);
            }
        })?;
        Tensor::from_vec(out, x.shape(), x.device())
    }

    /// Norms pieces of the weight's width in place.
    pub fn apply(&self, values: &mut [f32]) {
        for piece in values.chunks_exact_mut(self.weight.len()) {
            let inverse = self.inverse(piece);
            for (value, weight) in piece.iter_mut().zip(&self.weight) {
                *value = *value * inverse * weight;
            }
        }
    }

    pub fn parameters(&self) -> usize {
        self.weight.len()
    }

    /// One over the root of the mean square. Eight sums side by side: the compiler may not reorder float additions,
    /// so the order is written to suit vectors, and is the same whoever is in the batch.
    fn inverse(&self, x: &[f32]) -> f32 {
        let mut sums = [0.0f32; 8];
        let lanes = x.chunks_exact(8);
        let tail: f32 = lanes.remainder().iter().map(|v| v * v).sum();
        for part in lanes {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value * value;
            }
        }
        let mean = (sums.iter().sum::<f32>() + tail) / x.len() as f32;
        (mean + self.eps).sqrt().recip()
    }
}
