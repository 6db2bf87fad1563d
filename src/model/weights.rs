//! Tensors by name out of safetensors, one file or sharded, mapped from disk or inside the binary.

use std::collections::BTreeSet;

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use super::ModelError;
use super::files::Files;

enum Storage {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
}

pub struct Weights {
    storage: Storage,
    place: String,
    device: Device,
    dtype: DType,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    /// Tensors are handed out on `device` as `dtype`.
    pub fn open(files: &Files, device: &Device, dtype: DType) -> Result<Self, ModelError> {
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
                let shards = shard_names(files)?;
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
        Ok(Self {
            storage,
            place,
            device: device.clone(),
            dtype,
        })
    }

    /// The tensor `name`, whose shape must be `shape`.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let wrong = |reason: String| ModelError::Weights {
            place: self.place.clone(),
            reason,
        };
        let found = match &self.storage {
            Storage::Mapped(s) => s.get(name).map(|view| view.shape().to_vec()),
            Storage::Embedded(s) => s.get(name).map(|view| view.shape().to_vec()),
        };
        let found = found.map_err(|_| wrong(format!("{name} is missing")))?;
        if found != shape {
            return Err(wrong(format!("{name} is {found:?} where {shape:?} is wanted")));
        }
        let loaded = match &self.storage {
            Storage::Mapped(s) => s.load(name, &self.device),
            Storage::Embedded(s) => s.load(name, &self.device),
        };
        let tensor = loaded.and_then(|t| t.to_dtype(self.dtype));
        tensor.map_err(|e| wrong(format!("{name} cannot be loaded: {e}")))
    }

    /// Several matrices of `columns` columns one above the other, so that one matmul does for all.
    pub fn stacked(&self, parts: &[(&str, usize)], columns: usize) -> Result<Tensor, ModelError> {
        let tensors = parts
            .iter()
            .map(|(name, rows)| self.get(name, &[*rows, columns]))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&tensors, 0)?)
    }
}

fn shard_names(files: &Files) -> Result<Vec<String>, ModelError> {
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
