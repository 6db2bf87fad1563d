//! What the CUDA kernels must compute: cases as plain data, references in f64, and the comparison. The same cases run
//! on the CPU, where the kernels' sources are compiled for it (`tests/kernels-host`), and on a GPU.
//!
//! A [`Case`] makes its inputs from its own seed, rounds them to the kernel's type, and computes the reference from the
//! rounded values, so that only the kernel's own rounding is measured.

mod attention;
mod bench;
mod chance;
pub mod compare;
mod elementwise;
mod experts;
#[cfg(test)]
pub mod on_the_cpu;
mod products;
mod quantised;
mod rope_kv;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use attention::{DecodeCase, PrefillCase};
pub use bench::{Argument, Bench, Half, Launch};
pub use chance::Chance;
pub use elementwise::{ActivationCase, BiasCase, EmbedCase, LogitsCase, NormCase, ResidualCase};
pub use experts::ExpertsCase;
pub use products::ProductCase;
pub use quantised::RepackCase;
pub use rope_kv::RopeCase;

/// One launch or a few with everything they need.
pub trait Case: Debug {
    /// Runs it and compares. Returns the largest error, relative to the larger of the value and its row's root mean
    /// square; 0 where results must be equal.
    ///
    /// # Errors
    /// The first value that is missing or too far off, or what the device said.
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String>;
}

/// How large a random case may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A thread at a time on a CPU.
    Small,
    /// A GPU's work.
    Large,
}

/// A family's name and the maker of its random cases.
pub type Family = (&'static str, fn(&mut Chance, Size) -> Box<dyn Case>);

/// Every family of kernels but the samplers, whose reference is the engine's.
pub const FAMILIES: [Family; 12] = [
    ("embed", |chance, size| Box::new(EmbedCase::random(chance, size))),
    ("rms_norm", |chance, size| {
        Box::new(NormCase::random(chance, size))
    }),
    ("residual_norm", |chance, size| {
        Box::new(ResidualCase::random(chance, size))
    }),
    ("activation", |chance, size| {
        Box::new(ActivationCase::random(chance, size))
    }),
    ("add_bias", |chance, size| {
        Box::new(BiasCase::random(chance, size))
    }),
    ("finish_logits", |chance, size| {
        Box::new(LogitsCase::random(chance, size))
    }),
    ("rope_kv", |chance, size| Box::new(RopeCase::random(chance, size))),
    ("decode_attention", |chance, size| {
        Box::new(DecodeCase::random(chance, size))
    }),
    ("prefill_attention", |chance, size| {
        Box::new(PrefillCase::random(chance, size))
    }),
    ("repack", |chance, size| {
        Box::new(RepackCase::random(chance, size))
    }),
    ("gemv", |chance, size| Box::new(ProductCase::random(chance, size))),
    ("moe", |chance, size| Box::new(ExpertsCase::random(chance, size))),
];
