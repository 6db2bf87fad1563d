//! The decoder on a CUDA device: the kernels of `kernels/` and cuBLAS on one stream, without candle.

mod arena;
mod attention;
mod blueprint;
mod budget;
mod decoder;
mod device;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(test)]
mod emulated;
mod experts;
mod kernels;
#[cfg(feature = "cuda")]
mod libraries;
#[cfg(any(test, feature = "cuda"))]
pub mod measure;
mod names;
mod network;
mod open;
mod pack;
mod room;
mod ropes;
mod staging;
#[cfg(test)]
mod tests;
mod upload;

pub use arena::Arena;
pub use budget::{MemoryPlan, RESERVE, refusal};
pub use decoder::CudaDecoder;
pub use device::{Device, DeviceError, Half};
pub use open::{CudaFacts, cuda_device, open};
pub use room::Limits;
