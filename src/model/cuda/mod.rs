//! The decoder on a CUDA device: the kernels of `kernels/` and cuBLAS on one stream, without candle.

mod device;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "cuda")]
mod libraries;
