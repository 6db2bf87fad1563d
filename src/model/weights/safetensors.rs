//! Safetensors, one file or sharded, mapped from disk or inside the binary.

use std::collections::{BTreeSet, HashMap};

use candle_core::quantized::GgmlDType;
use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::Numbers;
use crate::model::ModelError;
use crate::model::files::Files;

enum Storage {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
}

pub struct Safetensors {
    storage: Storage,
    place: String,
}

impl Safetensors {
    pub fn open(files: &Files) -> Result<Self, ModelError> {
        let place = files.place();
        let wrong = |reason: String| ModelError::Weights {
            place: place.clone(),
            reason,
        };
        let storage = match files {
            Files::Embedded(_) => match files.read("model.safetensors")? {
                std::borrow::Cow::Borrowed(bytes) => {
                    Storage::Embedded(SliceSafetensors::new(bytes).map_err(|e| wrong(e.to_string()))?)
                }
                std::borrow::Cow::Owned(_) => unreachable!("embedded files are borrowed from the binary"),
            },
            Files::Folder(folder) => {
                let shards = weight_files(files)?;
                let paths: Vec<_> = shards.iter().map(|name| folder.join(name)).collect();
                for (path, name) in paths.iter().zip(&shards) {
                    if !path.is_file() {
                        return Err(ModelError::MissingFile {
                            place,
                            file: name.clone(),
                        });
                    }
                }
                // SAFETY: a map of a file is sound while nobody truncates or rewrites it; weights are read
                // once, here, at load, and the tensors handed out are copies.
                let mapped = unsafe { MmapedSafetensors::multi(&paths) };
                Storage::Mapped(mapped.map_err(|e| wrong(e.to_string()))?)
            }
        };
        Ok(Self { storage, place })
    }

    pub fn contains(&self, name: &str) -> bool {
        match &self.storage {
            Storage::Mapped(s) => s.get(name).is_ok(),
            Storage::Embedded(s) => s.get(name).is_ok(),
        }
    }

    /// The tensor `name` as it is stored, whose shape must be `shape`.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Numbers<'_>, ModelError> {
        self.check(name, shape)?;
        let view = match &self.storage {
            Storage::Mapped(s) => s.get(name),
            Storage::Embedded(s) => s.get(name),
        };
        let view = view.map_err(|e| self.wrong(format!("{name} cannot be loaded: {e}")))?;
        let kind = match view.dtype() {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            other => return Err(self.wrong(format!("{name} is stored as {other:?}, which is not read here"))),
        };
        Ok(Numbers {
            kind,
            bytes: view.data().into(),
        })
    }

    /// The tensor `name` as f32, whose shape must be `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.check(name, shape)?;
        let loaded = match &self.storage {
            Storage::Mapped(s) => s.load(name, &Device::Cpu),
            Storage::Embedded(s) => s.load(name, &Device::Cpu),
        };
        let tensor = loaded.and_then(|t| t.to_dtype(DType::F32));
        tensor.map_err(|e| self.wrong(format!("{name} cannot be loaded: {e}")))
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let found = match &self.storage {
            Storage::Mapped(s) => s.get(name).map(|view| view.shape().to_vec()),
            Storage::Embedded(s) => s.get(name).map(|view| view.shape().to_vec()),
        };
        let found = found.map_err(|_| self.wrong(format!("{name} is missing")))?;
        if found == shape {
            Ok(())
        } else {
            Err(self.wrong(format!("{name} is {found:?} where {shape:?} is wanted")))
        }
    }

    fn wrong(&self, reason: String) -> ModelError {
        ModelError::Weights {
            place: self.place.clone(),
            reason,
        }
    }
}

impl Safetensors {
    /// Every tensor by name, as f32.
    pub fn all(&self) -> Result<HashMap<String, Tensor>, ModelError> {
        let shapes: Vec<(String, Vec<usize>)> = match &self.storage {
            Storage::Mapped(s) => s
                .tensors()
                .into_iter()
                .map(|(n, v)| (n, v.shape().to_vec()))
                .collect(),
            Storage::Embedded(s) => s
                .tensors()
                .into_iter()
                .map(|(n, v)| (n, v.shape().to_vec()))
                .collect(),
        };
        shapes
            .into_iter()
            .map(|(name, shape)| {
                let tensor = self.tensor(&name, &shape)?;
                Ok((name, tensor))
            })
            .collect()
    }
}

/// The weight files of a folder, as its index names them.
pub fn weight_files(files: &Files) -> Result<Vec<String>, ModelError> {
    const INDEX: &str = "model.safetensors.index.json";
    let Some(index) = files.json(INDEX)? else {
        return Ok(vec!["model.safetensors".to_owned()]);
    };
    let names: BTreeSet<String> = index["weight_map"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(|file| file.as_str().map(str::to_owned))
        .collect();
    let inside = |name: &String| !name.contains(['/', '\\']);
    if names.is_empty() || !names.iter().all(inside) {
        return Err(ModelError::BadFile {
            place: files.place(),
            file: INDEX.to_owned(),
            reason: "its weight_map must name safetensors files beside it".to_owned(),
        });
    }
    Ok(names.into_iter().collect())
}
