//! What can be known of a model before its weights are loaded: configs and the heads of weight files are read.

use serde_json::Value;

use super::ModelError;
use super::checkpoint::Checkpoint;
use super::config::{self, DecoderConfig, SUPPORTED};
use super::load::ModelSource;
use super::one_at_a_time::OneAtATime;
use super::shape::Shape;

/// What dense weights are widened to on a CPU.
const HELD_ON_CPU: &str = "f32";

/// A model's shape and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    pub architecture: String,
    pub parameters: u64,
    /// The type most parameters are stored in: `bf16`, `q4_k`.
    pub stored_dtype: String,
    /// The type most of them are held in once loaded on a CPU.
    pub held_dtype: String,
    /// Memory of the weights once loaded on a CPU.
    pub held_bytes: u64,
    /// Numbers one token leaves in the cache: keys and values over all layers.
    pub kv_values_per_token: u64,
    pub max_positions: usize,
    /// Whether sequences run side by side; else one after the other.
    pub batched: bool,
}

/// Reads what there is to know without loading.
///
/// # Errors
/// All that loading would refuse of the config and of the heads of the weight files.
pub fn inspect(source: &ModelSource) -> Result<Inspection, ModelError> {
    let checkpoint = Checkpoint::open(source)?;
    let json: Value = checkpoint.config()?;
    let architecture = config::architecture(&json);
    let place = checkpoint.place();
    let batched = !OneAtATime::knows(&architecture);
    let shape = if batched {
        Shape::of(&DecoderConfig::parse(&place, &json)?)
    } else {
        Shape::parse(&place, &json)?
    };
    let stored = checkpoint.stored()?;
    if !batched && matches!(checkpoint, Checkpoint::Gguf { .. }) {
        return Err(ModelError::Unsupported {
            place,
            reason: format!("{architecture} is served from safetensors only"),
            supported: SUPPORTED,
        });
    }
    Ok(Inspection {
        architecture,
        parameters: stored.parameters,
        stored_dtype: stored.commonest,
        held_dtype: stored.held,
        held_bytes: stored.held_bytes,
        kv_values_per_token: shape.kv_values_per_token as u64,
        max_positions: shape.max_positions,
        batched,
    })
}

/// The same by a published `config.json` alone, for weights that are not there: their number follows from the shape, and
/// their type from `torch_dtype`.
///
/// # Errors
/// `Unsupported` and `BadFile` of the config, and for what only runs one at a time.
pub fn inspect_config(place: &str, config: &Value) -> Result<Inspection, ModelError> {
    let decoder = DecoderConfig::parse(place, config)?;
    let shape = Shape::of(&decoder);
    let parameters = decoder.parameters();
    let stored_dtype = match config["torch_dtype"].as_str() {
        Some("float16") => "f16",
        Some("bfloat16") => "bf16",
        _ => "f32",
    };
    Ok(Inspection {
        architecture: decoder.architecture.clone(),
        parameters,
        stored_dtype: stored_dtype.to_owned(),
        held_dtype: HELD_ON_CPU.to_owned(),
        held_bytes: parameters.saturating_mul(4),
        kv_values_per_token: shape.kv_values_per_token as u64,
        max_positions: shape.max_positions,
        batched: true,
    })
}
