//! Whether a CUDA device can be used here, and the device itself.

use std::sync::Arc;

use super::device::Device;

/// What people and meters know a device by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaFacts {
    /// `NVIDIA H200`
    pub name: String,
    /// As NVML and `nvidia-smi -L` write it: `GPU-…`.
    pub uuid: Option<String>,
    pub free_bytes: u64,
}

/// Opens a device with a stream of its own.
///
/// # Errors
/// One sentence that says what is missing.
#[cfg(all(feature = "cuda", not(test)))]
pub fn open(ordinal: usize) -> Result<Arc<dyn Device>, String> {
    Ok(Arc::new(super::driver::Driver::open(ordinal)?))
}

#[cfg(all(not(feature = "cuda"), not(test)))]
pub fn open(_: usize) -> Result<Arc<dyn Device>, String> {
    Err(NOT_BUILT.to_owned())
}

/// In tests the kernels run on the CPU.
#[cfg(test)]
pub fn open(_: usize) -> Result<Arc<dyn Device>, String> {
    Ok(Arc::new(super::emulated::Emulated::default()))
}

/// What can be known of a device without loading anything.
///
/// # Errors
/// One sentence that says what is missing.
#[cfg(feature = "cuda")]
pub fn cuda_device(ordinal: usize) -> Result<CudaFacts, String> {
    super::driver::facts(ordinal)
}

#[cfg(not(feature = "cuda"))]
pub fn cuda_device(_: usize) -> Result<CudaFacts, String> {
    Err(NOT_BUILT.to_owned())
}

#[cfg(not(feature = "cuda"))]
const NOT_BUILT: &str =
    "this build computes on the CPU only; build it with `--features cuda`, as CONTRIBUTING.md tells";
