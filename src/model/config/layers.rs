//! What differs from layer to layer: window, rotary embedding, experts.

use serde_json::Value;

use super::family::Family;
use super::fields::Fields;
use super::rope::RopeKinds;
use super::{FeedConfig, LayerConfig};
use crate::model::ModelError;

/// More layers than any model has: what passes this is a damaged file.
const MOST_LAYERS: usize = 4096;

pub fn read(fields: &Fields, family: Family, ropes: &RopeKinds) -> Result<Vec<LayerConfig>, ModelError> {
    let count = fields.size("num_hidden_layers")?;
    if count > MOST_LAYERS {
        return Err(fields.bad(format!("num_hidden_layers is {count}, more than {MOST_LAYERS}")));
    }
    let sliding = sliding(fields, family, count)?;
    let window = window(fields, family)?;
    let turning = turning(fields, family, count)?;
    let feeds = Feeds::read(fields, family)?;
    (0..count)
        .map(|layer| {
            let window = match (sliding[layer], window) {
                (true, None) => {
                    return Err(fields.bad(format!(
                        "layer {layer} is to slide, and sliding_window gives no size"
                    )));
                }
                (true, window) => window,
                (false, _) => None,
            };
            Ok(LayerConfig {
                window,
                rope: turning[layer].then(|| ropes.of(sliding[layer])),
                feed: feeds.of(layer),
            })
        })
        .collect()
}

fn window(fields: &Fields, family: Family) -> Result<Option<usize>, ModelError> {
    let switched_off = match family {
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe | Family::SmolLm3 => {
            fields.flag("use_sliding_window")? != Some(true)
        }
        _ => false,
    };
    if switched_off {
        return Ok(None);
    }
    // Left out is not the same as null: these classes have a default.
    let default = match family {
        Family::Mistral
        | Family::Gemma2
        | Family::Gemma3
        | Family::Qwen2
        | Family::Qwen3
        | Family::Qwen3Moe => Some(4096),
        _ => None,
    };
    match fields.optional_size("sliding_window")? {
        None if !fields.has("sliding_window") => Ok(default),
        window => Ok(window),
    }
}

/// Which layers look back through a window only.
fn sliding(fields: &Fields, family: Family, count: usize) -> Result<Vec<bool>, ModelError> {
    let window = window(fields, family)?.is_some();
    let by_types = matches!(
        family,
        Family::Qwen2 | Family::Qwen3 | Family::Gemma2 | Family::Gemma3 | Family::SmolLm3
    );
    if by_types && let Some(types) = fields.list("layer_types")? {
        if types.len() != count {
            return Err(fields.bad(format!("layer_types names {} of {count} layers", types.len())));
        }
        let of = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(window || family.is_gemma()),
            _ => Err(fields.unsupported(format!("it has layers of type {kind}"))),
        };
        return types.iter().map(of).collect();
    }
    let pattern = |every: usize| (0..count).map(|layer| (layer + 1) % every != 0).collect();
    Ok(match family {
        Family::Gemma2 => pattern(2),
        Family::Gemma3 => pattern(fields.size_or("sliding_window_pattern", 6)?),
        Family::Qwen2 | Family::Qwen3 => {
            let from = match fields.get("max_window_layers").map(Value::as_u64) {
                None => 28,
                Some(Some(layers)) => layers as usize,
                Some(None) => return Err(fields.bad("max_window_layers is no number of layers".to_owned())),
            };
            (0..count).map(|layer| window && layer >= from).collect()
        }
        Family::SmolLm3 => turning(fields, family, count)?
            .iter()
            .map(|turns| window && !turns)
            .collect(),
        Family::Mistral | Family::Mixtral | Family::Phi3 | Family::Qwen3Moe => vec![window; count],
        Family::Llama | Family::Granite | Family::Olmo2 => vec![false; count],
    })
}

/// Which layers have a rotary embedding.
fn turning(fields: &Fields, family: Family, count: usize) -> Result<Vec<bool>, ModelError> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; count]);
    }
    if let Some(flags) = fields.list("no_rope_layers")? {
        // Despite its name a 1 means that the layer turns.
        let turns: Option<Vec<bool>> = flags
            .iter()
            .map(|flag| flag.as_bool().or(flag.as_u64().map(|n| n != 0)))
            .collect();
        return turns.filter(|turns| turns.len() == count).ok_or_else(|| {
            fields.bad(format!(
                "no_rope_layers must give 0 or 1 for each of {count} layers"
            ))
        });
    }
    let every = fields.size_or("no_rope_layer_interval", 4)?;
    Ok((0..count).map(|layer| (layer + 1) % every != 0).collect())
}

/// How feed-forward parts are spread over the layers.
struct Feeds {
    dense: FeedConfig,
    experts: Option<FeedConfig>,
    sparse_step: usize,
    dense_layers: Vec<u64>,
}

impl Feeds {
    fn read(fields: &Fields, family: Family) -> Result<Self, ModelError> {
        let inner = fields.size("intermediate_size")?;
        let (experts, default_used, expert_inner) = match family {
            Family::Mixtral => (fields.size_or("num_local_experts", 8)?, 2, inner),
            Family::Qwen3Moe => (
                // transformers 5 writes the second name, those before it the first.
                fields.size_or("num_experts", fields.size_or("num_local_experts", 128)?)?,
                8,
                fields.size_or("moe_intermediate_size", 768)?,
            ),
            _ => {
                return Ok(Self {
                    dense: FeedConfig::Dense { inner },
                    experts: None,
                    sparse_step: 1,
                    dense_layers: Vec::new(),
                });
            }
        };
        let used = fields.size_or("num_experts_per_tok", default_used)?;
        if used > experts {
            return Err(fields.bad(format!("{used} experts a token cannot be had from {experts}")));
        }
        let moe = family == Family::Qwen3Moe;
        Ok(Self {
            dense: FeedConfig::Dense { inner },
            experts: Some(FeedConfig::Experts {
                count: experts,
                used,
                inner: expert_inner,
                renormalise: !moe || fields.flag("norm_topk_prob")?.unwrap_or_default(),
            }),
            sparse_step: if moe {
                fields.size_or("decoder_sparse_step", 1)?
            } else {
                1
            },
            dense_layers: fields
                .list("mlp_only_layers")?
                .filter(|_| moe)
                .unwrap_or_default()
                .iter()
                .filter_map(Value::as_u64)
                .collect(),
        })
    }

    fn of(&self, layer: usize) -> FeedConfig {
        let sparse =
            (layer + 1).is_multiple_of(self.sparse_step) && !self.dense_layers.contains(&(layer as u64));
        match &self.experts {
            Some(experts) if sparse => experts.clone(),
            _ => self.dense.clone(),
        }
    }
}
