//! What a model takes of a device, and what of it cannot be computed there, known before anything is loaded.

use super::arena::PageShape;
use super::blueprint::{Blueprint, Stock};
use super::decoder::BUCKETS;
use super::device::Half;
use super::kernels::{MOST_EXPERTS, MOST_USED, WIDEST_HEAD};
use super::room::{Limits, Room};
use super::ropes::RopeTable;
use super::staging::{Layout, Shape, table_width};
use crate::model::PAGE_TOKENS;
use crate::model::config::{DecoderConfig, FeedConfig};

/// Pairs of histories and biases that a step has room for; rows past it are drawn by the host, with the same result.
const ENTRIES: usize = 1 << 16;

/// The decoders' memory on a device beside models and pages: cuBLAS, graphs, and what the driver takes for itself.
pub const RESERVE: u64 = 512 << 20;

/// What the device's memory will hold of a model, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    pub weights: u64,
    pub workspace: u64,
    pub page: u64,
}

/// What cannot be computed on a CUDA device, in words that follow the model's name; checked before anything is loaded.
pub fn refusal(config: &DecoderConfig) -> Option<String> {
    let dim = config.heads.dim;
    if dim > WIDEST_HEAD {
        return Some(format!(
            "its heads are {dim} wide, and the CUDA kernels go to {WIDEST_HEAD}"
        ));
    }
    config.layers.iter().find_map(|layer| match layer.feed {
        FeedConfig::Experts { count, used, .. } if used > MOST_USED || count > MOST_EXPERTS => Some(format!(
            "its tokens use {used} of {count} experts, and the CUDA kernels go to {MOST_USED} of {MOST_EXPERTS}"
        )),
        _ => None,
    })
}

/// How a page of a model's keys and values lies: for each layer all keys, then all values.
pub fn page_shape(config: &DecoderConfig) -> PageShape {
    let stride = (config.heads.kv * PAGE_TOKENS * config.heads.dim * Half::BYTES) as u64;
    PageShape {
        stride,
        bytes: 2 * config.layers.len() as u64 * stride,
    }
}

impl MemoryPlan {
    /// Known from the config and the kinds of the file's tensors alone.
    pub fn of(config: &DecoderConfig, stock: &dyn Stock, limits: Limits) -> Self {
        let blueprint = Blueprint::of(config, stock);
        let ropes: u64 = config
            .ropes
            .iter()
            .map(|rope| RopeTable::bytes(rope, limits.context))
            .sum();
        let staging = staging_words(config, limits) as u64 * 4;
        Self {
            weights: blueprint.bytes,
            workspace: Room::bytes(config, &blueprint, limits) + ropes + staging,
            page: page_shape(config).room(),
        }
    }
}

/// Words of the largest step's inputs.
pub fn staging_words(config: &DecoderConfig, limits: Limits) -> usize {
    let shape = Shape {
        tokens: limits.tokens,
        singles: limits.rows,
        multis: 0,
        longest: 0,
        width: table_width(limits.context.div_ceil(PAGE_TOKENS)),
        context: limits.context,
        heads: limits.rows,
        states: limits.rows,
    };
    // As many cosines as a step may bring, whichever rope needs them.
    let turns: Vec<_> = config
        .ropes
        .iter()
        .map(|rope| Some(rope.rotary_dim / 2))
        .collect();
    Layout::of(&shape, &turns).entries + limits.rows + 4 * BUCKETS.len() + 2 * ENTRIES
}
