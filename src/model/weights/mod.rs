//! A model's tensors by their Hugging Face names, whatever file they come from.

mod safetensors;

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::ModelError;
use super::files::Files;
use super::gguf::{GgufFile, Stored as Blocks};
use super::linear::values;
use super::random::{RandomShape, RandomTensor};
use safetensors::Safetensors;

pub use safetensors::weight_files;

/// Tensors are handed out on the CPU; dense ones as f32.
pub struct Weights {
    source: Source,
    /// What stands before every name in the file: multimodal checkpoints keep the language model deeper.
    prefix: &'static str,
    place: String,
}

enum Source {
    Safetensors(Safetensors),
    Gguf(GgufFile),
    Random,
}

/// A tensor's numbers as its file holds them.
pub struct Numbers<'a> {
    pub kind: GgmlDType,
    pub bytes: Cow<'a, [u8]>,
}

/// One matrix as its file holds it.
pub enum Stored {
    /// `[rows, columns]`, f32.
    Dense(Tensor),
    /// In the file's own quantised blocks.
    Blocks(Blocks),
}

impl Stored {
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.dims().first().copied().unwrap_or_default(),
            Self::Blocks(blocks) => blocks.rows,
        }
    }
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn of_files(files: &Files) -> Result<Self, ModelError> {
        let source = Safetensors::open(files)?;
        let prefix = ["", "language_model.", "model.language_model."]
            .into_iter()
            .find(|prefix| {
                let inner = if *prefix == "model.language_model." {
                    ""
                } else {
                    "model."
                };
                source.contains(&format!("{prefix}{inner}embed_tokens.weight"))
            })
            .unwrap_or_default();
        Ok(Self {
            source: Source::Safetensors(source),
            prefix,
            place: files.place(),
        })
    }

    pub fn of_gguf(file: GgufFile, place: String) -> Self {
        Self {
            source: Source::Gguf(file),
            prefix: "",
            place,
        }
    }

    /// Numbers for any tensor that is asked for.
    pub fn of_random(shape: RandomShape) -> Self {
        Self {
            place: shape.place(),
            source: Source::Random,
            prefix: "",
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        match &self.source {
            // Experts lie one by one.
            Source::Random => !name.ends_with("_proj"),
            Source::Safetensors(file) => file.contains(&self.in_file(name)),
            Source::Gguf(file) => file.contains(name),
        }
    }

    /// The tensor `name` as f32, whose shape must be `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        match &self.source {
            Source::Safetensors(file) => file.tensor(&self.in_file(name), shape),
            Source::Gguf(file) => Ok(Tensor::from_vec(file.tensor(name, shape)?, shape, &Device::Cpu)?),
            Source::Random => {
                let random = RandomTensor::named(name);
                let count = shape.iter().product::<usize>() as u64;
                let numbers: Vec<f32> = (0..count).into_par_iter().map(|i| random.value(i)).collect();
                Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
            }
        }
    }

    /// The tensor `name` as its file holds it, without a copy where that can be; its shape must be `shape`.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Numbers<'_>, ModelError> {
        match (&self.source, shape) {
            (Source::Safetensors(file), _) => file.numbers(&self.in_file(name), shape),
            (Source::Gguf(file), &[rows, columns]) if kept(file.kind(name)) => {
                let blocks = file.matrix(name, rows, columns)?;
                Ok(Numbers {
                    kind: blocks.kind,
                    bytes: blocks.blocks.into(),
                })
            }
            _ => {
                let numbers = values(&self.tensor(name, shape)?)?;
                Ok(Numbers {
                    kind: GgmlDType::F32,
                    bytes: bytemuck::cast_slice(&numbers).to_vec().into(),
                })
            }
        }
    }

    /// How a GGUF file stores the tensor.
    pub fn block_kind(&self, name: &str) -> Option<GgmlDType> {
        match &self.source {
            Source::Gguf(file) => file.kind(name),
            Source::Safetensors(_) | Source::Random => None,
        }
    }

    /// By which rule the tensor's numbers are made, where they are.
    pub fn random(&self, name: &str) -> Option<RandomTensor> {
        matches!(self.source, Source::Random).then(|| RandomTensor::named(name))
    }

    /// The matrix `name`, which must have `rows` rows of `columns`.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Stored, ModelError> {
        match &self.source {
            Source::Safetensors(file) => {
                Ok(Stored::Dense(file.tensor(&self.in_file(name), &[rows, columns])?))
            }
            Source::Gguf(file) => {
                let blocks = file.matrix(name, rows, columns)?;
                match blocks.kind {
                    GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                        self.tensor(name, &[rows, columns]).map(Stored::Dense)
                    }
                    _ => Ok(Stored::Blocks(blocks)),
                }
            }
            Source::Random => Ok(Stored::Dense(self.tensor(name, &[rows, columns])?)),
        }
    }

    /// Every tensor of safetensors by the name its file gives it, as f32.
    pub fn all(&self) -> Result<HashMap<String, Tensor>, ModelError> {
        match &self.source {
            Source::Safetensors(file) => file.all(),
            Source::Gguf(_) | Source::Random => {
                Err(self.wrong("this architecture is served from safetensors only".to_owned()))
            }
        }
    }

    pub fn wrong(&self, reason: String) -> ModelError {
        ModelError::Weights {
            place: self.place.clone(),
            reason,
        }
    }

    fn in_file(&self, name: &str) -> String {
        // `model.language_model.` already stands for `model.`, and the head beside it has no prefix.
        match (self.prefix, name.strip_prefix("model.")) {
            ("model.language_model.", Some(inner)) => format!("model.language_model.{inner}"),
            ("model.language_model.", None) => name.to_owned(),
            (prefix, _) => format!("{prefix}{name}"),
        }
    }
}

/// Kinds that go to a device as they lie in the file: those its kernels multiply, and floats.
fn kept(kind: Option<GgmlDType>) -> bool {
    matches!(
        kind,
        Some(
            GgmlDType::F32
                | GgmlDType::F16
                | GgmlDType::BF16
                | GgmlDType::Q8_0
                | GgmlDType::Q4K
                | GgmlDType::Q6K
        )
    )
}
