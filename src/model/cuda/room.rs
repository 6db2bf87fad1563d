//! The memory a step computes in: taken once, so that nothing is allocated within a step.

use std::sync::Arc;

use super::attention::Attention;
use super::blueprint::{Blueprint, FeedSpot};
use super::device::{Device, DeviceError, Memory, Region};
use super::kernels::{FEW_ROWS, Kind};
use super::staging::table_width;
use crate::model::PAGE_TOKENS;
use crate::model::config::{DecoderConfig, FeedConfig};

/// Partial results of decode attention are kept within this, as long as one row's fit.
const PARTIALS: u64 = 64 << 20;
const ALIGNMENT: u64 = 256;

/// What a step may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub tokens: usize,
    pub rows: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
}

/// Bytes of every part, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    stream: u64,
    normed: u64,
    qkv: u64,
    attended: u64,
    gate_up: u64,
    gated: u64,
    partial: u64,
    stats: u64,
    head_in: u64,
    states: u64,
    logits: u64,
    tokens: u64,
    logprobs: u64,
    dense: u64,
    router: u64,
    shares: u64,
    experts: u64,
    places: u64,
    starts: u64,
    answers: u64,
}

pub struct Room {
    /// Owns what the regions name.
    _memory: Memory,
    pub stream: Region,
    pub normed: Region,
    pub qkv: Region,
    pub attended: Region,
    pub gate_up: Region,
    pub gated: Region,
    pub partial: Region,
    pub stats: Region,
    pub head_in: Region,
    pub states: Region,
    pub logits: Region,
    pub tokens: Region,
    pub logprobs: Region,
    /// A quantised matrix as half floats.
    pub dense: Region,
    pub router: Region,
    pub shares: Region,
    pub experts: Region,
    pub places: Region,
    pub starts: Region,
    /// What experts answer, `[tokens · used, hidden]`.
    pub answers: Region,
}

impl Parts {
    fn of(config: &DecoderConfig, blueprint: &Blueprint, limits: Limits) -> Self {
        let [tokens, rows, hidden, vocabulary] =
            [limits.tokens, limits.rows, config.hidden, config.vocabulary].map(|n| n as u64);
        let heads = config.heads;
        let (mut inner, mut places, mut count) = (0u64, 0u64, 0u64);
        for layer in &config.layers {
            match layer.feed {
                FeedConfig::Dense { inner: width } => inner = inner.max(tokens * width as u64),
                FeedConfig::Experts {
                    count: all,
                    used,
                    inner: width,
                    ..
                } => {
                    let calls = tokens * used as u64;
                    places = places.max(calls);
                    count = count.max(all as u64);
                    inner = inner.max(calls * width as u64);
                }
            }
        }
        let attention = Attention::plain(heads);
        // A graph's rows are as long as its tables.
        let longest = table_width(limits.context.div_ceil(PAGE_TOKENS)) * PAGE_TOKENS;
        let splits = attention.splits(longest) as u64;
        let one = splits * heads.query as u64;
        let pieces = (PARTIALS / (one * heads.dim as u64 * 4)).clamp(1, rows) * one;
        Self {
            stream: 2 * tokens * hidden,
            normed: 2 * tokens * hidden,
            qkv: 2 * tokens * heads.fused_width() as u64,
            attended: 2 * tokens * heads.query_width() as u64,
            gate_up: 4 * inner,
            gated: 2 * inner,
            partial: 4 * pieces * heads.dim as u64,
            stats: 8 * pieces,
            head_in: 2 * rows * hidden,
            states: 2 * rows * hidden,
            logits: 4 * rows * vocabulary,
            tokens: 4 * rows,
            logprobs: 4 * rows,
            dense: if limits.tokens > FEW_ROWS {
                largest_packed(blueprint)
            } else {
                0
            },
            router: 4 * tokens * count,
            shares: 4 * places,
            experts: 4 * places,
            places: 4 * places,
            starts: 4 * (count + 1),
            answers: 2 * places * hidden,
        }
    }

    fn list(&self) -> [u64; 20] {
        [
            self.stream,
            self.normed,
            self.qkv,
            self.attended,
            self.gate_up,
            self.gated,
            self.partial,
            self.stats,
            self.head_in,
            self.states,
            self.logits,
            self.tokens,
            self.logprobs,
            self.dense,
            self.router,
            self.shares,
            self.experts,
            self.places,
            self.starts,
            self.answers,
        ]
    }
}

/// Half floats of the largest quantised matrix that more than a few rows are multiplied with.
fn largest_packed(blueprint: &Blueprint) -> u64 {
    let linears = blueprint.layers.iter().flat_map(|layer| {
        let feed = match &layer.feed {
            FeedSpot::Dense { gate_up, down, .. } => vec![gate_up, down],
            FeedSpot::Experts(experts) => vec![&experts.router],
        };
        [&layer.projection, &layer.output].into_iter().chain(feed)
    });
    linears
        .flat_map(|linear| &linear.parts)
        .filter(|part| part.kind != Kind::Half)
        .map(|part| Kind::Half.bytes(part.inputs * part.outputs))
        .max()
        .unwrap_or(0)
}

impl Room {
    /// Bytes that [`Room::new`] takes.
    pub fn bytes(config: &DecoderConfig, blueprint: &Blueprint, limits: Limits) -> u64 {
        let parts = Parts::of(config, blueprint, limits).list();
        parts.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum()
    }

    pub fn new(
        device: &Arc<dyn Device>,
        config: &DecoderConfig,
        blueprint: &Blueprint,
        limits: Limits,
    ) -> Result<Self, DeviceError> {
        let memory = Memory::new(device, Self::bytes(config, blueprint, limits), "steps")?;
        let whole = memory.whole();
        let mut offset = 0;
        let [
            stream,
            normed,
            qkv,
            attended,
            gate_up,
            gated,
            partial,
            stats,
            head_in,
            states,
            logits,
            tokens,
            logprobs,
            dense,
            router,
            shares,
            experts,
            places,
            starts,
            answers,
        ] = Parts::of(config, blueprint, limits).list().map(|bytes| {
            let part = whole.part(offset, bytes);
            offset += bytes.next_multiple_of(ALIGNMENT);
            part
        });
        Ok(Self {
            _memory: memory,
            stream,
            normed,
            qkv,
            attended,
            gate_up,
            gated,
            partial,
            stats,
            head_in,
            states,
            logits,
            tokens,
            logprobs,
            dense,
            router,
            shares,
            experts,
            places,
            starts,
            answers,
        })
    }
}
