//! From a source to a model ready to compute.

use std::path::PathBuf;

use candle_core::{DType, Device};

use super::config::{DecoderConfig, OneOrMany, SUPPORTED};
use super::files::Files;
use super::llama::Llama;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::weights::Weights;
use super::{Batch, Logits, ModelError};
use crate::units::TokenId;

/// Where a model's files lie.
#[derive(Clone, Debug)]
pub enum ModelSource {
    Folder(PathBuf),
    Gguf(PathBuf),
    /// File names and bytes inside the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    Cpu,
    Cuda(usize),
}

/// What weights are held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 on the CPU, where candle has no fast matmul for half floats.
    Auto,
    F32,
    F16,
    Bf16,
}

/// A packed forward pass over pages the caller hands out.
pub trait Decoder: Send {
    /// Computes the batch, writes its keys and values, returns the logits asked for.
    /// Every page named in the batch must have been materialised.
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError>;
    /// Gives a page memory, before its first use and again after a release.
    fn materialise_page(&mut self, page: u32);
    /// Takes a page's memory back.
    fn release_page(&mut self, page: u32);
    fn bytes_per_page(&self) -> u64;
    /// Sequences a batch may have; `None` is no limit.
    fn max_rows(&self) -> Option<usize> {
        None
    }
    /// Whether a prompt must come in one step, from position 0 on. Its keys and values lie in no pages then, so no
    /// two sequences share any.
    fn whole_prompts(&self) -> bool {
        false
    }
    /// What the keys of a prompt of that many tokens depend on beside its tokens. Only sequences with the same salt
    /// share pages.
    fn cache_salt(&self, _prompt_tokens: usize) -> u64 {
        0
    }
}

/// A model with all that is needed to serve it.
pub struct LoadedModel {
    pub decoder: Box<dyn Decoder>,
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    pub end_tokens: Vec<TokenId>,
    /// `generation_config.json`'s sampling, where it says anything.
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub architecture: String,
    pub precision: &'static str,
    pub parameters: u64,
    pub weight_bytes: u64,
    pub vocabulary: usize,
    pub max_positions: usize,
}

/// Loads a model. Everything about it is checked here; later only computing can fail.
pub fn load(source: &ModelSource, compute: Compute, precision: Precision) -> Result<LoadedModel, ModelError> {
    let files = match source {
        ModelSource::Folder(path) => Files::Folder(path.clone()),
        ModelSource::Embedded(files) => Files::Embedded(files),
        ModelSource::Gguf(path) => {
            return Err(ModelError::Unsupported {
                place: path.display().to_string(),
                reason: "it is a GGUF file".to_owned(),
                supported: SUPPORTED,
            });
        }
    };
    let place = files.place();
    let Compute::Cpu = compute else {
        return Err(ModelError::Unsupported {
            place,
            reason: "it is to run on a CUDA device, and the decoders here compute on the CPU; set device = \"cpu\""
                .to_owned(),
            supported: SUPPORTED,
        });
    };
    if !matches!(precision, Precision::Auto | Precision::F32) {
        return Err(ModelError::Unsupported {
            place,
            reason: "f16 and bf16 are some twenty times slower than f32 on a CPU; set dtype = \"f32\""
                .to_owned(),
            supported: SUPPORTED,
        });
    }
    let device = Device::Cpu;
    let config = DecoderConfig::parse(&place, &files.read("config.json")?)?;
    let tokenizer = Tokenizer::load(&files, config.vocabulary)?;
    let template = chat_template(&files)?;
    let generation = Generation::read(&files)?;
    let end_tokens = end_tokens(&config, &generation, &tokenizer, &files)?;
    let weights = Weights::open(&files, &device, DType::F32)?;
    let (architecture, vocabulary, max_positions) = (
        config.architecture.clone(),
        config.vocabulary,
        config.max_positions,
    );
    let decoder = Llama::load(config, &weights, &device)?;
    let parameters = decoder.parameters();
    Ok(LoadedModel {
        decoder: Box::new(decoder),
        tokenizer,
        template,
        end_tokens,
        temperature: generation.temperature,
        top_p: generation.top_p,
        top_k: generation.top_k,
        architecture,
        precision: "f32",
        parameters,
        weight_bytes: parameters * size_of::<f32>() as u64,
        vocabulary,
        max_positions,
    })
}

fn chat_template(files: &Files) -> Result<Option<ChatTemplate>, ModelError> {
    let Some(mut config) = files.json("tokenizer_config.json")? else {
        return Ok(None);
    };
    // transformers 5 writes the template beside the config.
    if let Some(template) = files.read_optional("chat_template.jinja")? {
        config["chat_template"] = String::from_utf8_lossy(&template).into_owned().into();
    }
    if config["chat_template"].is_null() {
        return Ok(None);
    }
    ChatTemplate::compile(&config)
        .map(Some)
        .map_err(|reason| ModelError::BadFile {
            place: files.place(),
            file: "tokenizer_config.json".to_owned(),
            reason,
        })
}

/// What `generation_config.json` says.
#[derive(Default)]
struct Generation {
    end_tokens: Vec<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
}

impl Generation {
    fn read(files: &Files) -> Result<Self, ModelError> {
        let Some(json) = files.json("generation_config.json")? else {
            return Ok(Self::default());
        };
        let number = |name: &str| json[name].as_f64().map(|n| n as f32);
        let greedy = json["do_sample"].as_bool() == Some(false) || json["do_sample"].is_null();
        Ok(Self {
            end_tokens: serde_json::from_value::<OneOrMany>(json["eos_token_id"].clone())
                .map(OneOrMany::into_vec)
                .unwrap_or_default(),
            // Without `do_sample` transformers decodes greedily, whatever the temperature beside it says.
            temperature: if greedy { Some(0.0) } else { number("temperature") },
            top_p: number("top_p").filter(|_| !greedy),
            top_k: json["top_k"].as_u64().map(|k| k as u32).filter(|_| !greedy),
        })
    }
}

fn end_tokens(
    config: &DecoderConfig,
    generation: &Generation,
    tokenizer: &Tokenizer,
    files: &Files,
) -> Result<Vec<TokenId>, ModelError> {
    let mut ids: Vec<u32> = config
        .end_tokens
        .iter()
        .chain(&generation.end_tokens)
        .copied()
        .collect();
    let named = files.json("tokenizer_config.json")?.unwrap_or_default();
    let text = named["eos_token"]
        .as_str()
        .or_else(|| named["eos_token"]["content"].as_str());
    ids.extend(text.and_then(|t| tokenizer.token(t)).map(|t| t.0));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into_iter().map(TokenId).collect())
}
