//! Rotary embeddings: base, share of the head, and scaling for contexts longer than the first training's.

use serde_json::{Map, Value, json};

use super::config::Keys;
use super::metadata::decimal;
use super::{GgufFile, ModelError};

/// Half of a head's numbers, with much room.
const MOST_DIVISORS: usize = 1 << 16;

/// The divisors of frequencies that a file keeps as tensors.
#[derive(Debug, Default)]
pub struct Tensors {
    /// Llama 3's scaling, worked out by the converter.
    pub factors: Option<Vec<f64>>,
    /// LongRoPE's, for contexts up to the original length and past it.
    pub short: Option<Vec<f64>>,
    pub long: Option<Vec<f64>>,
}

impl Tensors {
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let read = |name: &str| -> Result<Option<Vec<f64>>, ModelError> {
            let Some(numbers) = file.raw(name, MOST_DIVISORS).transpose()? else {
                return Ok(None);
            };
            if numbers.iter().any(|number| !number.is_finite() || *number <= 0.0) {
                return Err(file.bad(format!("{name} holds a divisor that is no positive number")));
            }
            Ok(Some(numbers.into_iter().map(decimal).collect()))
        };
        Ok(Self {
            factors: read("rope_freqs.weight")?,
            short: read("rope_factors_short.weight")?,
            long: read("rope_factors_long.weight")?,
        })
    }
}

/// `rope_theta`, `partial_rotary_factor` and `rope_scaling`, as far as there is something to say.
pub fn rope(keys: &Keys, tensors: &Tensors) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    let theta = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
    fields.insert("rope_theta".to_owned(), json!(theta));
    let (turned, head_dim) = turned(keys)?;
    if turned < head_dim {
        let share = turned as f64 / head_dim as f64;
        fields.insert("partial_rotary_factor".to_owned(), json!(share));
    }
    let divisors = [&tensors.factors, &tensors.short, &tensors.long];
    for divisors in divisors.into_iter().flatten() {
        if divisors.len() != turned / 2 {
            return Err(format!(
                "its rotary embeddings turn {} pairs of numbers and have {} divisors",
                turned / 2,
                divisors.len()
            ));
        }
    }
    let original = keys.count("rope.scaling.original_context_length")?;
    if let Some(original) = original {
        fields.insert("original_max_position_embeddings".to_owned(), json!(original));
    }
    if let Some(scaling) = scaling(keys, tensors, original)? {
        fields.insert("rope_scaling".to_owned(), scaling);
    }
    Ok(fields)
}

/// How many numbers of a head are turned, and how many it has.
fn turned(keys: &Keys) -> Result<(usize, usize), String> {
    let head_dim = match keys.count("attention.key_length")? {
        Some(given) => given,
        None => {
            let hidden = keys.count("embedding_length")?.unwrap_or(0);
            hidden / keys.count("attention.head_count")?.unwrap_or(1).max(1)
        }
    };
    let turned = keys.count("rope.dimension_count")?.unwrap_or(head_dim);
    if turned == 0 || turned > head_dim || !turned.is_multiple_of(2) {
        return Err(format!(
            "its rotary embeddings turn {turned} numbers of heads that have {head_dim}"
        ));
    }
    Ok((turned, head_dim))
}

fn scaling(keys: &Keys, tensors: &Tensors, original: Option<usize>) -> Result<Option<Value>, String> {
    let kind = keys.text("rope.scaling.type")?.unwrap_or("linear");
    // The older key's name is from before there were kinds.
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?,
    };
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    if factor < 0.0 {
        return Err(format!("its rotary embeddings are scaled by {factor}"));
    }
    if let (Some(long), Some(short)) = (&tensors.long, &tensors.short) {
        let positions = keys.count("context_length")?;
        let (Some(original), Some(positions)) = (original.filter(|original| *original > 0), positions) else {
            return Err(format!(
                "it has divisors for long contexts and no {}",
                keys.key("rope.scaling.original_context_length")
            ));
        };
        let mut scaling = json!({
            "rope_type": "longrope",
            "long_factor": long,
            "short_factor": short,
            "original_max_position_embeddings": original,
            "factor": positions as f64 / original as f64,
        });
        if let Some(attention) = keys.float("rope.scaling.attn_factor")? {
            scaling["attention_factor"] = json!(attention);
        }
        return Ok(Some(scaling));
    }
    let told = |key: &str, usual: f64| keys.float(key).map(|value| value.filter(|value| *value != usual));
    for (key, usual) in [
        ("rope.scaling.attn_factor", 1.0),
        ("rope.scaling.yarn_ext_factor", 1.0),
        ("rope.scaling.yarn_log_multiplier", 0.0),
    ] {
        if let Some(value) = told(key, usual)? {
            return Err(format!(
                "its {} is {value}, which cannot be computed",
                keys.key(key)
            ));
        }
    }
    match (kind, &tensors.factors) {
        ("none", None) => Ok(None),
        ("none" | "linear", Some(factors)) => {
            let both: Vec<f64> = factors
                .iter()
                .map(|divisor| if kind == "linear" { divisor * factor } else { *divisor })
                .collect();
            Ok(Some(json!({"rope_type": "factors", "factors": both})))
        }
        ("linear", None) if factor == 1.0 => Ok(None),
        ("linear", None) => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
        ("yarn", None) => yarn(keys, factor, original).map(Some),
        ("yarn", Some(_)) => Err("its rotary embeddings have both YaRN's scaling and divisors of their own".to_owned()),
        ("longrope", _) => Err(
            "its rotary embeddings are LongRoPE's, and rope_factors_long.weight or rope_factors_short.weight is missing"
                .to_owned(),
        ),
        (other, _) => Err(format!(
            "its rotary embeddings are scaled by {other:?}, and none, linear, yarn and longrope can be computed"
        )),
    }
}

fn yarn(keys: &Keys, factor: f64, original: Option<usize>) -> Result<Value, String> {
    let mut scaling = json!({"rope_type": "yarn", "factor": factor});
    let original = match original {
        Some(original) => Some(original),
        None => keys.count("context_length")?,
    };
    scaling["original_max_position_embeddings"] = json!(original);
    let settings = [
        ("attention_factor", "rope.scaling.yarn_attn_factor"),
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ];
    for (name, key) in settings {
        if let Some(value) = keys.float(key)? {
            scaling[name] = json!(value);
        }
    }
    Ok(scaling)
}
