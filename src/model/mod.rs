//! Decoders and the encoder on candle behind plain data: packed-batch forward, weights, tokenizers and chat templates.
//!
//! Nothing of candle leaves this room: a [`Batch`] of integers goes in, [`Logits`] and hidden states of `f32` come out.

mod attention;
mod batch;
mod block;
mod calls;
mod checkpoint;
mod choice;
mod config;
mod cuda;
mod decoder;
mod dense;
mod detokenizer;
mod elementwise;
mod encoder;
mod feed;
mod files;
mod gguf;
mod hardware;
mod inspect;
#[doc(hidden)]
#[cfg(any(test, feature = "cuda"))]
pub mod kernel_cases;
mod kv;
mod linear;
mod load;
mod norm;
mod one_at_a_time;
mod packed;
mod pieces;
#[doc(hidden)]
pub mod quantised;
mod random;
mod rotary;
mod shape;
mod stored;
mod template;
mod tokenizer;
mod weights;

pub use batch::{Batch, Logits};
pub use calls::{CallForm, CallParser, Said, Tool};
pub use choice::{Choice, Seen};
#[cfg(any(test, feature = "cuda"))]
pub use cuda::Half as HalfKind;
#[cfg(any(test, feature = "cuda"))]
pub use cuda::measure::{Bench as GpuBench, KernelCheck, Roofline, Run, Subject, check_kernels};
pub use cuda::{CudaFacts, MemoryPlan, RESERVE as CUDA_RESERVE, cuda_device};
pub use decoder::Decoder;
pub use detokenizer::Detokenizer;
pub use encoder::{Encoder, EncoderInspection, inspect_encoder};
pub use hardware::{Hardware, HostedModel, cuda_dtype, cuda_need};
pub use inspect::{Inspection, inspect, inspect_config};
pub use kv::PAGE_TOKENS;
pub use load::{Compute, LoadedModel, ModelSource, Precision, load};
pub use pieces::Pieces;
pub use random::RandomShape;
pub use template::{ChatMessage, ChatTemplate, TemplateInputs};
pub use tokenizer::Tokenizer;

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{place} has no {file}: a model needs config.json, tokenizer.json and its safetensors")]
    MissingFile { place: String, file: String },
    #[error("{path} cannot be read: {reason}", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{file} of {place} is not what it should be: {reason}")]
    BadFile {
        place: String,
        file: String,
        reason: String,
    },
    #[error("{place} cannot be served: {reason}; this build serves {supported}")]
    Unsupported {
        place: String,
        reason: String,
        supported: &'static str,
    },
    #[error("{place} has a file {file} that {reason}: fetch the model again")]
    Damaged {
        place: String,
        file: String,
        reason: String,
    },
    #[error("the weights of {place} do not fit its config.json: {reason}")]
    Weights { place: String, reason: String },
    #[error("the device cannot be used: {0}")]
    Device(String),
    #[error("computing a step failed: {0}")]
    Compute(String),
}

impl From<cuda::DeviceError> for ModelError {
    fn from(error: cuda::DeviceError) -> Self {
        match error {
            cuda::DeviceError::OutOfMemory { .. } => Self::Device(error.to_string()),
            cuda::DeviceError::Failed { .. } => Self::Compute(error.to_string()),
        }
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(error.to_string())
    }
}
