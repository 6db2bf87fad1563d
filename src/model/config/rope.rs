//! Rotary embeddings, as `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before) describe them.

use super::family::Family;
use super::fields::Fields;
use crate::model::ModelError;
use crate::model::rotary::{LongRope, Rope, RopeScaling, Yarn};

/// Which of a model's rotary embeddings a layer uses.
pub struct RopeKinds {
    sliding: usize,
    full: usize,
}

impl RopeKinds {
    pub fn of(&self, sliding: bool) -> usize {
        if sliding { self.sliding } else { self.full }
    }
}

/// The rotary embeddings of a model.
pub fn read(
    fields: &Fields,
    family: Family,
    head_dim: usize,
    max_positions: usize,
) -> Result<(Vec<Rope>, RopeKinds), ModelError> {
    let one = |parameters: Option<Fields>, base: f64| {
        rope(fields, family, parameters, base, head_dim, max_positions)
    };
    let scaling = fields.inside("rope_scaling");
    let parameters = fields.inside("rope_parameters");
    let base = fields.number_or("rope_theta", family.rope_base())?;
    if family != Family::Gemma3 {
        return Ok((
            vec![one(scaling.or(parameters), base)?],
            RopeKinds { sliding: 0, full: 0 },
        ));
    }
    let nested = |kind: &str| parameters.and_then(|p| p.inside(kind));
    let local_base = fields.number_or("rope_local_base_freq", 10_000.0)?;
    let full = one(scaling.or(nested("full_attention")), base)?;
    let sliding = one(nested("sliding_attention"), local_base)?;
    Ok((vec![full, sliding], RopeKinds { sliding: 1, full: 0 }))
}

/// One embedding. What `parameters` leaves out is looked for in the config itself.
fn rope(
    fields: &Fields,
    family: Family,
    parameters: Option<Fields>,
    default_base: f64,
    head_dim: usize,
    max_positions: usize,
) -> Result<Rope, ModelError> {
    let empty = serde_json::Value::Null;
    let parameters = parameters.unwrap_or(Fields::new("", &empty));
    let base = parameters.number_or("rope_theta", default_base)?;
    if base <= 0.0 {
        return Err(fields.bad(format!("rope_theta is {base}, and must be positive")));
    }
    let rotary_dim = match family {
        Family::Phi3 => {
            let share = match parameters.optional_number("partial_rotary_factor")? {
                Some(share) => share,
                None => fields.number_or("partial_rotary_factor", 1.0)?,
            };
            (head_dim as f64 * share) as usize
        }
        _ => head_dim,
    };
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
        return Err(fields.bad(format!(
            "{rotary_dim} of {head_dim} values of a head cannot be turned in pairs"
        )));
    }
    Ok(Rope {
        rotary_dim,
        base,
        scaling: scaling(fields, &parameters, rotary_dim, max_positions)?,
        max_positions,
    })
}

fn scaling(
    fields: &Fields,
    parameters: &Fields,
    rotary_dim: usize,
    max_positions: usize,
) -> Result<RopeScaling, ModelError> {
    let kind = match parameters.text("rope_type")? {
        Some(kind) => Some(kind),
        None => parameters.text("type")?,
    };
    let positive = |key: &str| match parameters.optional_number(key)? {
        Some(number) if number > 0.0 => Ok(Some(number)),
        Some(number) => Err(fields.bad(format!(
            "{key} of its rotary scaling is {number}, and must be positive"
        ))),
        None => Ok(None),
    };
    let needed = |key: &str| -> Result<f64, ModelError> {
        positive(key)?.ok_or_else(|| fields.bad(format!("its rotary scaling has no {key}")))
    };
    let original = || -> Result<usize, ModelError> {
        let outside = fields.optional_size("original_max_position_embeddings")?;
        let inside = parameters.optional_size("original_max_position_embeddings")?;
        Ok(outside.or(inside).unwrap_or(max_positions))
    };
    let factors = |key: &str| -> Result<Vec<f32>, ModelError> {
        let list = parameters
            .numbers(key)?
            .ok_or_else(|| fields.bad(format!("its rotary scaling has no {key}")))?;
        if list.len() != rotary_dim / 2 || list.iter().any(|f| *f <= 0.0) {
            return Err(fields.bad(format!(
                "{key} must hold {} positive factors, one for every pair of a head",
                rotary_dim / 2
            )));
        }
        Ok(list.into_iter().map(|f| f as f32).collect())
    };
    Ok(match kind.unwrap_or("default") {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear {
            factor: needed("factor")?,
        },
        "dynamic" => RopeScaling::Dynamic {
            factor: needed("factor")?,
        },
        "yarn" => RopeScaling::Yarn(Yarn {
            factor: positive("factor")?,
            original_max: original()?,
            beta_fast: positive("beta_fast")?.unwrap_or(32.0),
            beta_slow: positive("beta_slow")?.unwrap_or(1.0),
            mscale: parameters.optional_number("mscale")?,
            mscale_all_dim: parameters.optional_number("mscale_all_dim")?,
            attention_factor: parameters.optional_number("attention_factor")?,
            truncate: parameters.flag("truncate")?.unwrap_or(true),
        }),
        "longrope" | "su" => RopeScaling::LongRope(LongRope {
            short_factor: factors("short_factor")?,
            long_factor: factors("long_factor")?,
            original_max: original()?,
            factor: positive("factor")?,
            attention_factor: parameters.optional_number("attention_factor")?,
        }),
        "llama3" => RopeScaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max: original()?,
        },
        // What a GGUF's `rope_freqs` tensor holds.
        "factors" => RopeScaling::Factors(factors("factors")?),
        other => return Err(fields.unsupported(format!("its rotary embeddings are scaled by {other}"))),
    })
}

impl Rope {
    /// The longest sequence this embedding was stretched for.
    pub fn stretched_positions(&self) -> usize {
        let stretched = match &self.scaling {
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } => {
                self.max_positions as f64 * factor
            }
            RopeScaling::Yarn(yarn) => yarn.original_max as f64 * yarn.factor.unwrap_or(1.0),
            _ => 0.0,
        };
        self.max_positions.max(stretched as usize)
    }

    /// Keys of two prompts agree where their tokens do only if this number is the same for the lengths of both.
    pub fn regime(&self, prompt_tokens: usize) -> u64 {
        match &self.scaling {
            RopeScaling::Dynamic { .. } if prompt_tokens > self.max_positions => prompt_tokens as u64,
            RopeScaling::LongRope(long) => u64::from(prompt_tokens > long.original_max),
            _ => 0,
        }
    }
}
