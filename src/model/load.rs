//! From a source to a model ready to compute.

use std::path::PathBuf;

use super::ModelError;
use super::calls::CallForm;
use super::checkpoint::Checkpoint;
use super::config::{self, DecoderConfig, SUPPORTED};
use super::decoder::Decoder;
use super::one_at_a_time::OneAtATime;
use super::packed::PackedDecoder;
use super::random::RandomShape;
use super::shape::Shape;
use super::stored::StoredWeights;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::weights::Weights;
use crate::units::TokenId;

/// Where a model's files lie.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelSource {
    Folder(PathBuf),
    Gguf(PathBuf),
    /// File names and bytes inside the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// Nowhere: random numbers in some shape.
    Random(RandomShape),
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
    /// f32 on the CPU, where candle has no fast matmul for half floats; bf16 on a CUDA device.
    Auto,
    F32,
    F16,
    Bf16,
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
    /// What most of its weights are held as: `f32`, `q4_k`.
    pub precision: String,
    pub parameters: u64,
    pub weight_bytes: u64,
    pub vocabulary: usize,
    pub max_positions: usize,
    /// Whether sequences run side by side; else one after the other.
    pub batched: bool,
}

/// A decoder, its parameters, and the bytes of its weights.
type Built = (Box<dyn Decoder>, u64, u64);

/// Loads a model onto the CPU. Everything about it is checked here; later only computing can fail.
pub fn load(source: &ModelSource, compute: Compute, precision: Precision) -> Result<LoadedModel, ModelError> {
    let place = Checkpoint::open(source)?.place();
    refuse_what_is_not_computed(&place, compute, precision)?;
    let held = |stored: &StoredWeights| stored.held.clone();
    load_with(source, held, |config, weights| {
        let decoder = PackedDecoder::load(config, weights)?;
        let (parameters, bytes) = (decoder.parameters(), decoder.weight_bytes());
        Ok((Box::new(decoder), parameters, bytes))
    })
}

/// Loads a model whose batched decoder `build` makes; `held` says what that holds most weights as.
pub fn load_with(
    source: &ModelSource,
    held: impl Fn(&StoredWeights) -> String,
    build: impl FnOnce(DecoderConfig, &Weights) -> Result<Built, ModelError>,
) -> Result<LoadedModel, ModelError> {
    let checkpoint = Checkpoint::open(source)?;
    let place = checkpoint.place();
    let json = checkpoint.config()?;
    let generation = Generation::read(checkpoint.generation_config()?);
    let template = checkpoint.chat_template()?;
    let architecture = config::architecture(&json);
    let stored = checkpoint.stored()?;
    let batched = !OneAtATime::knows(&architecture);
    let (config, shape) = if batched {
        let config = DecoderConfig::parse(&place, &json)?;
        let shape = Shape::of(&config);
        (Some(config), shape)
    } else {
        (None, Shape::parse(&place, &json)?)
    };
    let form = template.as_ref().map(ChatTemplate::call_form);
    let tokenizer = checkpoint.tokenizer(shape.vocabulary)?;
    let tokenizer = tokenizer.showing(form.iter().flat_map(CallForm::marks));
    let end_tokens = checkpoint.end_tokens(&shape.end_tokens, &tokenizer)?;
    let (vocabulary, max_positions) = (shape.vocabulary, shape.max_positions);
    let weights = checkpoint.weights()?;
    let (decoder, parameters, weight_bytes): Built = match config {
        Some(config) => build(config, &weights)?,
        None => {
            let decoder = OneAtATime::load(&place, &architecture, &json, shape, weights)?;
            (Box::new(decoder), stored.parameters, stored.held_bytes)
        }
    };
    Ok(LoadedModel {
        decoder,
        tokenizer,
        template,
        end_tokens,
        temperature: generation.temperature,
        top_p: generation.top_p,
        top_k: generation.top_k,
        architecture,
        precision: held(&stored),
        parameters,
        weight_bytes,
        vocabulary,
        max_positions,
        batched,
    })
}

fn refuse_what_is_not_computed(
    place: &str,
    compute: Compute,
    precision: Precision,
) -> Result<(), ModelError> {
    let refuse = |reason: &str| {
        Err(ModelError::Unsupported {
            place: place.to_owned(),
            reason: reason.to_owned(),
            supported: SUPPORTED,
        })
    };
    if compute != Compute::Cpu {
        return refuse(
            "it is to run on a CUDA device, and this loads onto the CPU; a lane opens its device as Hardware",
        );
    }
    if !matches!(precision, Precision::Auto | Precision::F32) {
        return refuse("f16 and bf16 are some twenty times slower than f32 on a CPU; set dtype = \"f32\"");
    }
    Ok(())
}

/// What `generation_config.json` says.
#[derive(Default)]
struct Generation {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
}

impl Generation {
    fn read(json: Option<serde_json::Value>) -> Self {
        let Some(json) = json else { return Self::default() };
        let number = |name: &str| json[name].as_f64().map(|n| n as f32);
        let greedy = json["do_sample"].as_bool() == Some(false) || json["do_sample"].is_null();
        Self {
            // Without `do_sample` transformers decodes greedily, whatever the temperature beside it says.
            temperature: if greedy { Some(0.0) } else { number("temperature") },
            top_p: number("top_p").filter(|_| !greedy),
            top_k: json["top_k"].as_u64().map(|k| k as u32).filter(|_| !greedy),
        }
    }
}
