//! GGUF files: header, shape, weights, tokenizer and chat template of a model in one file.
//!
//! The face is Hugging Face's: `config.json` and `tokenizer_config.json` as transformers would have them, and
//! tensors by transformers' names with their rows in transformers' order.

mod architecture;
mod config;
mod header;
mod kinds;
mod metadata;
mod names;
mod pretokenizer;
mod rope;
mod sentencepiece;
mod tokenizer;
mod vocabulary;
mod weights;

#[cfg(test)]
mod tests;

pub use weights::Stored;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;

use super::ModelError;
use architecture::Architecture;
use header::{Header, Refusal};
use metadata::Metadata;
use names::{Heads, Part};
use weights::Rows;

/// A GGUF file whose header has been read and checked; weights are read as they are asked for.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    header: Header,
    architecture: Architecture,
    /// What divides a layer's rows among queries, keys and values.
    heads: usize,
    kv_heads: usize,
}

impl GgufFile {
    /// Reads the header only, and refuses what could not be served: a broken file, one part of a split model, an
    /// architecture or a kind of quantisation that cannot be computed.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |error: std::io::Error| ModelError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let place = || path.display().to_string();
        let bad = |reason: String| ModelError::BadFile {
            place: place(),
            file: "the header".to_owned(),
            reason,
        };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let header = Header::read(BufReader::new(&file), length).map_err(|refusal| match refusal {
            Refusal::Bad(reason) => bad(reason),
            Refusal::Foreign(reason) => ModelError::Unsupported {
                place: place(),
                reason,
                supported: kinds::LOADABLE,
            },
        })?;
        let architecture =
            served(&header.metadata)
                .map_err(bad)?
                .map_err(|reason| ModelError::Unsupported {
                    place: place(),
                    reason,
                    supported: architecture::SERVED,
                })?;
        let (heads, kv_heads) = config::heads(&header.metadata, architecture).map_err(bad)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            architecture,
            heads,
            kv_heads,
        })
    }

    /// The model's shape as the `config.json` that transformers would have.
    pub fn config(&self) -> Result<serde_json::Value, ModelError> {
        config::config(self)
    }

    /// The tokenizer, ready to use. Its added tokens are the file's control and user-defined tokens.
    pub fn tokenizer(&self) -> Result<tokenizers::Tokenizer, ModelError> {
        let vocabulary =
            vocabulary::Vocabulary::read(&self.header.metadata).map_err(|reason| self.bad(reason))?;
        tokenizer::build(&vocabulary, &self.header.metadata, self.architecture)
            .map_err(|reason| self.bad(reason))
    }

    /// What `tokenizer_config.json` would say: the chat template, special tokens, and which of them are added.
    pub fn tokenizer_config(&self) -> serde_json::Value {
        vocabulary::tokenizer_config(&self.header.metadata)
    }

    /// Every tensor's kind, numbers and bytes.
    pub fn tensors(&self) -> impl Iterator<Item = (GgmlDType, u64, u64)> {
        self.header.tensors.values().map(|tensor| {
            let numbers = tensor.shape.iter().map(|n| *n as u64).product();
            (tensor.kind, numbers, tensor.bytes)
        })
    }

    /// Whether the file has the tensor that transformers calls `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// How the tensor is stored.
    pub fn kind(&self, name: &str) -> Option<GgmlDType> {
        self.find(name).map(|(rows, _)| rows.tensor.kind)
    }

    /// The tensor's shape as transformers has it: `[rows, columns]`.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.find(name).map(|(rows, _)| rows.shape)
    }

    /// A matrix in the file's own blocks, rows in transformers' order. The shape must be `[rows, columns]`.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Stored, ModelError> {
        let (kind, blocks, _) = self.read(name, &[rows, columns])?;
        Ok(Stored {
            kind,
            blocks,
            rows,
            columns,
        })
    }

    /// A tensor's numbers, rows in transformers' order. The shape must be `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let (kind, blocks, place) = self.read(name, shape)?;
        let mut numbers = self.numbers(kind, &blocks, shape.iter().product())?;
        if place.plus_one {
            for number in &mut numbers {
                *number -= 1.0;
            }
        }
        Ok(numbers)
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<(GgmlDType, Vec<u8>, names::Place), ModelError> {
        let wrong = |reason: String| ModelError::Weights {
            place: self.place(),
            reason,
        };
        let (rows, place) = self
            .find(name)
            .ok_or_else(|| wrong(format!("{name} is missing")))?;
        if rows.shape != shape {
            return Err(wrong(format!(
                "{name} is {:?} where {shape:?} is wanted",
                rows.shape
            )));
        }
        let heads = place.interleaved.map(|which| match which {
            Heads::Query => self.heads,
            Heads::KeyValue => self.kv_heads,
        });
        let blocks = match heads {
            Some(heads) if !rows.count.is_multiple_of(2 * heads) => {
                return Err(wrong(format!(
                    "{name} has {} rows, which {heads} heads cannot share evenly",
                    rows.count
                )));
            }
            Some(heads) => rows.read_heads(&self.file, heads),
            None => rows.read(&self.file),
        };
        let blocks = blocks.map_err(|error| ModelError::Unreadable {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok((rows.tensor.kind, blocks, place))
    }

    fn numbers(&self, kind: GgmlDType, blocks: &[u8], count: usize) -> Result<Vec<f32>, ModelError> {
        Ok(weights::dequantise(kind, blocks, count)?)
    }

    /// A short tensor by GGUF's own name, for those that transformers has no name for.
    fn raw(&self, name: &str, most: usize) -> Option<Result<Vec<f32>, ModelError>> {
        let tensor = self.header.tensors.get(name)?;
        let rows = Rows::whole(tensor);
        let count = rows.shape.iter().product();
        if count > most {
            return Some(Err(self.bad(format!(
                "its {name} has {count} numbers, and up to {most} make sense"
            ))));
        }
        Some(
            rows.read(&self.file)
                .map_err(|error| ModelError::Unreadable {
                    path: self.path.clone(),
                    reason: error.to_string(),
                })
                .and_then(|blocks| self.numbers(tensor.kind, &blocks, count)),
        )
    }

    fn find(&self, name: &str) -> Option<(Rows<'_>, names::Place)> {
        names::places(self.architecture, name)
            .into_iter()
            .find_map(|place| {
                let tensor = self.header.tensors.get(&place.tensor)?;
                let rows = match place.part {
                    Part::Whole => Some(Rows::whole(tensor)),
                    Part::Expert(index) => Rows::expert(tensor, index),
                    Part::Queries | Part::Keys | Part::Values => {
                        let groups = self.heads + 2 * self.kv_heads;
                        let all = tensor.shape[0];
                        if !all.is_multiple_of(groups) {
                            return None;
                        }
                        let head = all / groups;
                        let (first, heads) = match place.part {
                            Part::Queries => (0, self.heads),
                            Part::Keys => (self.heads, self.kv_heads),
                            _ => (self.heads + self.kv_heads, self.kv_heads),
                        };
                        Rows::slice(tensor, first * head, heads * head)
                    }
                };
                Some((rows?, place))
            })
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn bad(&self, reason: String) -> ModelError {
        ModelError::BadFile {
            place: self.place(),
            file: "the header".to_owned(),
            reason,
        }
    }
}

/// The architecture, when this is a whole model of one that is served. The outer error is a broken header's, the
/// inner one a sound file's that cannot be served.
fn served(metadata: &Metadata) -> Result<Result<Architecture, String>, String> {
    if let Some(kind) = metadata.text("general.type")?.filter(|kind| *kind != "model") {
        return Ok(Err(format!("it holds a {kind:?} and not a model")));
    }
    if let Some(parts) = metadata.count("split.count")?.filter(|parts| *parts > 1) {
        return Ok(Err(format!(
            "it is one of {parts} parts of a model; join them with llama-gguf-split --merge"
        )));
    }
    let name = metadata
        .text("general.architecture")?
        .ok_or("it has no general.architecture")?;
    Ok(Architecture::of_name(name).ok_or_else(|| format!("its architecture is {name:?}")))
}
