//! Architectures that the packed decoder lacks, by candle-transformers: one sequence at a time, its keys and values
//! inside the model.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{glm4_new, phi, stable_lm, starcoder2};
use serde_json::Value;

use super::ModelError;
use super::batch::{Batch, Logits};
use super::config::SUPPORTED;
use super::decoder::Decoder;
use super::kv::PAGE_TOKENS;
use super::linear::values;
use super::shape::Shape;
use super::weights::Weights;

/// What is served this way, for messages.
pub const ARCHITECTURES: [&str; 4] = [
    "Starcoder2ForCausalLM",
    "StableLmForCausalLM",
    "PhiForCausalLM",
    "Glm4ForCausalLM",
];

/// One conversation with a model of candle-transformers.
trait Conversation: Send {
    /// `ids` is `[1, tokens]`, of which `offset` came before; returns the last token's logits.
    fn step(&mut self, ids: &Tensor, offset: usize) -> candle_core::Result<Tensor>;
}

impl Conversation for starcoder2::Model {
    fn step(&mut self, ids: &Tensor, offset: usize) -> candle_core::Result<Tensor> {
        self.forward(ids, offset)
    }
}

impl Conversation for stable_lm::Model {
    fn step(&mut self, ids: &Tensor, offset: usize) -> candle_core::Result<Tensor> {
        self.forward(ids, offset)
    }
}

impl Conversation for phi::Model {
    fn step(&mut self, ids: &Tensor, _offset: usize) -> candle_core::Result<Tensor> {
        self.forward(ids)
    }
}

impl Conversation for glm4_new::ModelForCausalLM {
    fn step(&mut self, ids: &Tensor, offset: usize) -> candle_core::Result<Tensor> {
        self.forward(ids, offset)
    }
}

type Begin = Box<dyn Fn(VarBuilder) -> candle_core::Result<Box<dyn Conversation>> + Send>;

pub struct OneAtATime {
    /// Builds the model anew: not all of them can forget, and tensors are shared, so it costs little.
    begin: Begin,
    tensors: HashMap<String, Tensor>,
    conversation: Box<dyn Conversation>,
    /// Tokens the conversation holds.
    length: usize,
    shape: Shape,
}

impl OneAtATime {
    pub fn knows(architecture: &str) -> bool {
        ARCHITECTURES.contains(&architecture)
    }

    pub fn load(
        place: &str,
        architecture: &str,
        json: &Value,
        shape: Shape,
        weights: Weights,
    ) -> Result<Self, ModelError> {
        let begin = begin(place, architecture, json)?;
        let tensors = weights.all()?;
        let conversation = begin(builder(&tensors)).map_err(|e| weights.wrong(e.to_string()))?;
        Ok(Self {
            begin,
            tensors,
            conversation,
            length: 0,
            shape,
        })
    }
}

fn builder(tensors: &HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu)
}

fn begin(place: &str, architecture: &str, json: &Value) -> Result<Begin, ModelError> {
    let json = flattened(json);
    fn config<C: serde::de::DeserializeOwned>(place: &str, json: Value) -> Result<C, ModelError> {
        serde_json::from_value(json).map_err(|e| ModelError::BadFile {
            place: place.to_owned(),
            file: "config.json".to_owned(),
            reason: e.to_string(),
        })
    }
    let refuse = |reason: &str| {
        Err(ModelError::Unsupported {
            place: place.to_owned(),
            reason: reason.to_owned(),
            supported: SUPPORTED,
        })
    };
    Ok(match architecture {
        "Starcoder2ForCausalLM" => {
            if json["tie_word_embeddings"] == false {
                return refuse("its head is not tied to its embeddings");
            }
            let config: starcoder2::Config = config(place, json)?;
            Box::new(move |vb| Ok(Box::new(starcoder2::Model::new(&config, vb)?)))
        }
        "StableLmForCausalLM" => {
            if json["use_parallel_residual"] == true || json["qk_layernorm"] == true {
                return refuse("its blocks are parallel or norm their queries");
            }
            if json["tie_word_embeddings"] == true {
                return refuse("its head is tied to its embeddings");
            }
            let config: stable_lm::Config = config(place, json)?;
            Box::new(move |vb| Ok(Box::new(stable_lm::Model::new(&config, vb)?)))
        }
        "PhiForCausalLM" => {
            let config: phi::Config = config(place, json)?;
            Box::new(move |vb| Ok(Box::new(phi::Model::new(&config, vb)?)))
        }
        "Glm4ForCausalLM" => {
            let config: glm4_new::Config = config(place, json)?;
            Box::new(move |vb| Ok(Box::new(glm4_new::ModelForCausalLM::new(&config, vb)?)))
        }
        other => return refuse(&format!("its architecture is {other}")),
    })
}

/// The config as transformers wrote it before version 5, which candle-transformers reads: rotary parameters at the
/// top, and no field left out that has a default.
fn flattened(json: &Value) -> Value {
    let mut flat = json.clone();
    for key in ["rope_theta", "partial_rotary_factor"] {
        let inside = &json["rope_parameters"][key];
        if flat[key].is_null() && !inside.is_null() {
            flat[key] = inside.clone();
        }
    }
    for (key, default) in [
        ("use_cache", Value::Bool(true)),
        ("tie_word_embeddings", Value::Bool(false)),
    ] {
        if flat[key].is_null() {
            flat[key] = default;
        }
    }
    flat
}

impl Decoder for OneAtATime {
    /// A batch holds one sequence: from its start, which begins a new conversation, or going on where it is.
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        let first = batch.positions.first().map_or(0, |p| *p as usize);
        if batch.sequences() != 1 || (first != 0 && first != self.length) {
            return Err(ModelError::Compute(format!(
                "a model that serves one sequence at a time was given {} at position {first} of {}",
                batch.sequences(),
                self.length
            )));
        }
        if first == 0 {
            self.conversation = (self.begin)(builder(&self.tensors))?;
        }
        // Until the step has succeeded nothing can go on from it.
        self.length = usize::MAX;
        let ids: Vec<u32> = batch.input_ids.iter().map(|t| t.0).collect();
        let tokens = ids.len();
        let ids = Tensor::from_vec(ids, (1, tokens), &Device::Cpu)?;
        let logits = values(&self.conversation.step(&ids, first)?)?;
        self.length = first + tokens;
        if batch.logit_rows.is_empty() {
            return Ok(Logits::new(Vec::new(), self.shape.vocabulary));
        }
        Ok(Logits::new(logits, self.shape.vocabulary))
    }

    /// The model keeps its keys and values itself; pages only count them.
    fn materialise_page(&mut self, _page: u32) {}

    fn release_page(&mut self, _page: u32) {}

    fn bytes_per_page(&self) -> u64 {
        (self.shape.kv_values_per_token * PAGE_TOKENS * size_of::<f32>()) as u64
    }

    fn max_rows(&self) -> Option<usize> {
        Some(1)
    }

    fn whole_prompts(&self) -> bool {
        true
    }
}
