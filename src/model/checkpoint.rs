//! One model on disk or in the binary: a Hugging Face folder, a GGUF file, or files inside the program.

use candle_core::quantized::GgmlDType;
use serde_json::Value;

use super::ModelError;
use super::config::{DecoderConfig, OneOrMany};
use super::files::Files;
use super::gguf::GgufFile;
use super::load::ModelSource;
use super::random::{self, RandomShape};
use super::stored::{Census, StoredWeights};
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::weights::{Weights, weight_files};
use crate::units::TokenId;

pub enum Checkpoint {
    Files(Files),
    Gguf { file: GgufFile, place: String },
    Random(RandomShape),
}

impl Checkpoint {
    /// Opens it; of a GGUF file the header is read and checked.
    pub fn open(source: &ModelSource) -> Result<Self, ModelError> {
        Ok(match source {
            ModelSource::Folder(path) => Self::Files(Files::Folder(path.clone())),
            ModelSource::Embedded(files) => Self::Files(Files::Embedded(files)),
            ModelSource::Random(shape) => Self::Random(*shape),
            ModelSource::Gguf(path) => Self::Gguf {
                file: GgufFile::open(path)?,
                place: path.display().to_string(),
            },
        })
    }

    /// How messages name it.
    pub fn place(&self) -> String {
        match self {
            Self::Files(files) => files.place(),
            Self::Gguf { place, .. } => place.clone(),
            Self::Random(shape) => shape.place(),
        }
    }

    /// `config.json`, or what a GGUF's metadata amount to.
    pub fn config(&self) -> Result<Value, ModelError> {
        match self {
            Self::Files(files) => files.json("config.json")?.ok_or_else(|| ModelError::MissingFile {
                place: files.place(),
                file: "config.json".to_owned(),
            }),
            Self::Gguf { file, .. } => file.config(),
            Self::Random(shape) => shape.config(),
        }
    }

    pub fn tokenizer(&self, vocabulary: usize) -> Result<Tokenizer, ModelError> {
        match self {
            Self::Files(files) => Tokenizer::load(files, vocabulary),
            Self::Gguf { file, .. } => Tokenizer::from_built(file.tokenizer()?, vocabulary)
                .map_err(|reason| self.no_tokenizer(reason)),
            Self::Random(_) => random::tokenizer()
                .and_then(|built| Tokenizer::from_built(built, vocabulary))
                .map_err(|reason| self.no_tokenizer(reason)),
        }
    }

    fn no_tokenizer(&self, reason: String) -> ModelError {
        ModelError::BadFile {
            place: self.place(),
            file: "the tokenizer".to_owned(),
            reason,
        }
    }

    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        let Some(config) = self.tokenizer_config()? else {
            return Ok(None);
        };
        if config["chat_template"].is_null() {
            return Ok(None);
        }
        ChatTemplate::compile(&config)
            .map(Some)
            .map_err(|reason| ModelError::BadFile {
                place: self.place(),
                file: "tokenizer_config.json".to_owned(),
                reason,
            })
    }

    /// The tokens that end an answer: what the config, the generation config and the tokenizer's config name.
    pub fn end_tokens(&self, config: &[u32], tokenizer: &Tokenizer) -> Result<Vec<TokenId>, ModelError> {
        let mut ids: Vec<u32> = config.to_vec();
        let generation = self.generation_config()?.unwrap_or_default();
        if let Ok(more) = serde_json::from_value::<OneOrMany>(generation["eos_token_id"].clone()) {
            ids.extend(more.into_vec());
        }
        let named = self.tokenizer_config()?.unwrap_or_default();
        let text = named["eos_token"]
            .as_str()
            .or_else(|| named["eos_token"]["content"].as_str());
        ids.extend(text.and_then(|t| tokenizer.token(t)).map(|t| t.0));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into_iter().map(TokenId).collect())
    }

    pub fn generation_config(&self) -> Result<Option<Value>, ModelError> {
        match self {
            Self::Files(files) => files.json("generation_config.json"),
            Self::Gguf { .. } | Self::Random(_) => Ok(None),
        }
    }

    /// What the weight files hold, by their heads.
    pub fn stored(&self) -> Result<StoredWeights, ModelError> {
        let mut census = Census::default();
        match self {
            Self::Gguf { file, .. } => {
                for (kind, parameters, bytes) in file.tensors() {
                    census.add(&kind_name(kind), parameters, bytes);
                }
            }
            Self::Random(shape) => {
                let config = DecoderConfig::parse(&shape.place(), &shape.config()?)?;
                let parameters = config.parameters();
                census.add("bf16", parameters, 2 * parameters);
            }
            Self::Files(files) => {
                for name in weight_files(files)? {
                    let (mut file, length) = files.open(&name)?;
                    census
                        .add_safetensors(&mut file, length)
                        .map_err(|reason| ModelError::Damaged {
                            place: self.place(),
                            file: name,
                            reason,
                        })?;
                }
            }
        }
        census.result().ok_or_else(|| ModelError::Weights {
            place: self.place(),
            reason: "there are none".to_owned(),
        })
    }

    /// Opens the weights.
    pub fn weights(self) -> Result<Weights, ModelError> {
        match self {
            Self::Files(files) => Weights::of_files(&files),
            Self::Gguf { file, place } => Ok(Weights::of_gguf(file, place)),
            Self::Random(shape) => Ok(Weights::of_random(shape)),
        }
    }

    fn tokenizer_config(&self) -> Result<Option<Value>, ModelError> {
        let files = match self {
            Self::Gguf { file, .. } => return Ok(Some(file.tokenizer_config())),
            Self::Random(shape) => return Ok(Some(shape.tokenizer_config())),
            Self::Files(files) => files,
        };
        let Some(mut config) = files.json("tokenizer_config.json")? else {
            return Ok(None);
        };
        // transformers 5 writes the template beside the config.
        if let Some(template) = files.read_optional("chat_template.jinja")? {
            config["chat_template"] = String::from_utf8_lossy(&template).into_owned().into();
        }
        Ok(Some(config))
    }
}

/// GGML's own name of a kind, `Q4_K`, where candle writes `Q4K`.
fn kind_name(kind: GgmlDType) -> String {
    let name = format!("{kind:?}");
    match name.strip_suffix('K') {
        Some(start) => format!("{start}_K"),
        None => name,
    }
}
