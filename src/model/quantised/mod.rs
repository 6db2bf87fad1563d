//! Products with GGUF-quantised weights on the CPU: weights stay in their blocks, activations become `i8`, products
//! are exact integers within a block and `f32` sums over the blocks, in llama.cpp's arithmetic.
//!
//! Eight output rows are packed together, interleaved by four input bytes. One vector register then holds eight rows,
//! one lane each, and four activations are broadcast to all of them: no sum ever crosses lanes. Every output is
//! computed by the same operations in the same order for one token or for many, so an answer does not depend on
//! the size of its batch or on the number of threads.

mod activations;
mod aligned;
mod dequantise;
mod layout;
mod matrix;
mod multiply;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod outside_tests;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{ActivationKind, Activations};
pub(in crate::model) use aligned::AlignedBytes;
#[cfg(any(test, feature = "cuda"))]
pub(in crate::model) use dequantise::dequantise_block;
pub use layout::Kind;
pub use matrix::PackedMatrix;
pub(in crate::model) use multiply::Target;
pub use multiply::multiply_all;

/// Output rows of one packed group: the `f32` lanes of a 256-bit register.
const GROUP: usize = 8;

/// Whether this processor has the instructions the kernels are written in.
fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
