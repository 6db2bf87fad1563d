//! Rotary embedding: the frequencies of every scaling that models use, and the turn itself.
//!
//! Frequencies and angles are computed in f32 in transformers' order of operations, because at long positions an
//! angle in f64 would be another angle.

use std::f64::consts::PI;

/// One way to turn queries and keys, as a model's configuration tells it. Layers with equal `Rope`s share the
/// tables of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// How many of a head's first values turn; even. The rest pass.
    pub rotary_dim: usize,
    pub base: f64,
    pub scaling: RopeScaling,
    /// The model's `max_position_embeddings`.
    pub max_positions: usize,
}

/// How frequencies depart from base^(−2i / rotary_dim). `original_max` is the length of the training before the
/// context was extended, `original_max_position_embeddings`.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        factor: f64,
    },
    /// The base grows with a sequence once that is longer than `max_positions`.
    Dynamic {
        factor: f64,
    },
    Yarn(Yarn),
    LongRope(LongRope),
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max: usize,
    },
    /// A divisor for every frequency, `[rotary_dim / 2]`: what a GGUF file carries as `rope_freqs`.
    Factors(Vec<f32>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// `max_positions / original_max` if absent.
    pub factor: Option<f64>,
    pub original_max: usize,
    /// Turns within `original_max` above which a frequency is kept. 32 is usual.
    pub beta_fast: f64,
    /// Turns below which a frequency is divided by `factor`. 1 is usual.
    pub beta_slow: f64,
    pub mscale: Option<f64>,
    pub mscale_all_dim: Option<f64>,
    pub attention_factor: Option<f64>,
    /// Whether the borders of the ramp are rounded outwards. True is usual.
    pub truncate: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors while a sequence is no longer than `original_max`, `[rotary_dim / 2]`.
    pub short_factor: Vec<f32>,
    /// Divisors once it is longer, `[rotary_dim / 2]`.
    pub long_factor: Vec<f32>,
    pub original_max: usize,
    /// `max_positions / original_max` if absent.
    pub factor: Option<f64>,
    pub attention_factor: Option<f64>,
}

impl Rope {
    /// Cosines and sines for tokens at `positions`, whose sequences are `extents` long: see
    /// [`Batch::extents`](super::batch::Batch).
    pub fn tables(&self, positions: &[u32], extents: &[u32]) -> Rotary {
        let half = self.rotary_dim / 2;
        let factor = self.attention_factor();
        let mut rotary = Rotary {
            cos: Vec::with_capacity(positions.len() * half),
            sin: Vec::with_capacity(positions.len() * half),
            half,
        };
        let mut last = None;
        let mut frequencies = Vec::new();
        for (&position, &extent) in positions.iter().zip(extents) {
            let kind = self.extent_that_matters(extent as usize);
            if last != Some(kind) {
                frequencies = self.inverse_frequencies(kind);
                last = Some(kind);
            }
            for frequency in &frequencies {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                rotary.cos.push(cos * factor);
                rotary.sin.push(sin * factor);
            }
        }
        rotary
    }

    /// Equal for extents with equal frequencies.
    fn extent_that_matters(&self, extent: usize) -> usize {
        match &self.scaling {
            RopeScaling::Dynamic { .. } => extent.max(self.max_positions),
            RopeScaling::LongRope(long) => extent.clamp(long.original_max, long.original_max + 1),
            _ => 0,
        }
    }

    /// Radians by which one position turns each pair of values, `[rotary_dim / 2]`, in a sequence `extent` long.
    fn inverse_frequencies(&self, extent: usize) -> Vec<f32> {
        match &self.scaling {
            RopeScaling::Default => self.plain(self.base as f32),
            RopeScaling::Linear { factor } => {
                let factor = *factor as f32;
                self.plain(self.base as f32).iter().map(|f| f / factor).collect()
            }
            RopeScaling::Dynamic { factor } => self.plain(self.grown_base(*factor, extent)),
            RopeScaling::Yarn(yarn) => self.yarn(yarn),
            RopeScaling::LongRope(long) => {
                let divisors = if extent > long.original_max {
                    &long.long_factor
                } else {
                    &long.short_factor
                };
                let wavelengths = self.wavelengths(self.base as f32);
                divisors
                    .iter()
                    .zip(wavelengths)
                    .map(|(d, w)| 1.0 / (d * w))
                    .collect()
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max,
            } => {
                let (factor, original) = (*factor as f32, *original_max as f64);
                let longest = (original / low_freq_factor) as f32;
                let shortest = (original / high_freq_factor) as f32;
                let (low, span) = (
                    *low_freq_factor as f32,
                    (high_freq_factor - low_freq_factor) as f32,
                );
                let scaled = |frequency: f32| {
                    let wavelength = (2.0 * PI) as f32 / frequency;
                    if wavelength < shortest {
                        frequency
                    } else if wavelength > longest {
                        frequency / factor
                    } else {
                        let smooth = (original as f32 / wavelength - low) / span;
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                };
                self.plain(self.base as f32).into_iter().map(scaled).collect()
            }
            RopeScaling::Factors(divisors) => {
                let plain = self.plain(self.base as f32);
                plain.iter().zip(divisors).map(|(f, d)| f / d).collect()
            }
        }
    }

    /// base^(2i / rotary_dim): positions, divided by 2π, until a pair has turned once.
    fn wavelengths(&self, base: f32) -> impl Iterator<Item = f32> {
        let dim = self.rotary_dim;
        (0..dim / 2).map(move |i| base.powf((2 * i) as f32 / dim as f32))
    }

    fn plain(&self, base: f32) -> Vec<f32> {
        self.wavelengths(base).map(|w| 1.0 / w).collect()
    }

    /// The base at which a sequence `extent` long turns the lowest frequency as far as `max_positions` did.
    fn grown_base(&self, factor: f64, extent: usize) -> f32 {
        if extent <= self.max_positions {
            return self.base as f32;
        }
        let dim = self.rotary_dim as f64;
        let ratio = factor as f32 * extent as f32 / self.max_positions as f32 - (factor - 1.0) as f32;
        self.base as f32 * ratio.powf((dim / (dim - 2.0)) as f32)
    }

    fn extension(&self, factor: Option<f64>, original_max: usize) -> f64 {
        factor.unwrap_or(self.max_positions as f64 / original_max as f64)
    }

    fn yarn(&self, yarn: &Yarn) -> Vec<f32> {
        let dim = self.rotary_dim as f64;
        // The index of the pair that turns `turns` times within the original length.
        let index_of =
            |turns: f64| dim * (yarn.original_max as f64 / (turns * 2.0 * PI)).ln() / (2.0 * self.base.ln());
        let (mut low, mut high) = (index_of(yarn.beta_fast), index_of(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let factor = self.extension(yarn.factor, yarn.original_max) as f32;
        let (low, span) = (low as f32, (high - low) as f32);
        let blended = |(i, wavelength): (usize, f32)| {
            let kept = 1.0 - ((i as f32 - low) / span).clamp(0.0, 1.0);
            1.0 / (factor * wavelength) * (1.0 - kept) + 1.0 / wavelength * kept
        };
        self.wavelengths(self.base as f32)
            .enumerate()
            .map(blended)
            .collect()
    }

    /// What cosines and sines are multiplied by.
    fn attention_factor(&self) -> f32 {
        let factor = match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor.unwrap_or_else(|| {
                let factor = self.extension(yarn.factor, yarn.original_max);
                let of = |mscale: f64| {
                    if factor <= 1.0 {
                        1.0
                    } else {
                        0.1 * mscale * factor.ln() + 1.0
                    }
                };
                match (yarn.mscale, yarn.mscale_all_dim) {
                    (Some(part), Some(all)) if part != 0.0 && all != 0.0 => of(part) / of(all),
                    _ => of(1.0),
                }
            }),
            RopeScaling::LongRope(long) => long.attention_factor.unwrap_or_else(|| {
                let factor = self.extension(long.factor, long.original_max);
                if factor <= 1.0 {
                    1.0
                } else {
                    (1.0 + factor.ln() / (long.original_max as f64).ln()).sqrt()
                }
            }),
            _ => 1.0,
        };
        factor as f32
    }
}

/// Cosines and sines of a batch's tokens, `[tokens, rotary_dim / 2]` each, multiplied by the attention factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    pub fn cosines(&self) -> &[f32] {
        &self.cos
    }

    pub fn sines(&self) -> &[f32] {
        &self.sin
    }

    /// Turns one head of `token`: the first half of its turning values pairs with the second.
    pub fn turn(&self, token: usize, head: &mut [f32]) {
        let (first, rest) = head.split_at_mut(self.half);
        let cos = &self.cos[token * self.half..][..self.half];
        let sin = &self.sin[token * self.half..][..self.half];
        for (((a, b), cos), sin) in first.iter_mut().zip(rest).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
#[path = "rotary_tests.rs"]
mod tests;
