//! The kernels of one step in order: embedding, layers, head, sampling.
//!
//! Everything that differs between steps of one [`Shape`] is read from the device's memory, so a step can be captured
//! once and put on the stream again with other inputs.

use super::arena::PageShape;
use super::attention::{Attention, Pages, Turn};
use super::blueprint::{Blueprint, ExpertsSpot, FeedSpot, LayerSpot, LinearSpot, MatrixSpot, Spot, gate};
use super::device::{DeviceError, Half, Region};
use super::experts::Calls;
use super::kernels::{FEW_ROWS, Kernels, Kind, MOST_SAMPLED, Matrix, Out, Rows, SAMPLE_WORDS};
use super::room::Room;
use super::ropes::RopeTable;
use super::staging::{Layout, Shape};
use crate::model::config::{DecoderConfig, QueryKeyNorm};

/// A decoder's weights and all that its kernels are told of.
pub struct Network {
    pub config: DecoderConfig,
    pub blueprint: Blueprint,
    pub kernels: Kernels,
    /// All weights.
    pub weights: Region,
    /// The arena that holds the keys and values, and how a page lies in it.
    pub arena: Region,
    pub page: PageShape,
    pub ropes: Vec<RopeTable>,
    pub room: Room,
}

/// The inputs of one step on the device.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub shape: &'a Shape,
    pub layout: &'a Layout,
    pub inputs: Region,
}

impl Step<'_> {
    fn words(&self, at: usize, count: usize) -> Region {
        self.inputs.part(4 * at as u64, 4 * count as u64)
    }
}

impl Network {
    /// Puts the whole step on the stream.
    pub fn run(&self, step: Step<'_>) -> Result<(), DeviceError> {
        let Shape { tokens, .. } = *step.shape;
        let (room, config) = (&self.room, &self.config);
        let ids = step.words(step.layout.ids, tokens);
        let table = self.matrix(&self.blueprint.embedding);
        self.kernels
            .embed(room.stream, table, ids, tokens, config.embedding_scale)?;
        let layers = &self.blueprint.layers;
        if let Some(weight) = layers.first().and_then(|layer| layer.before_attention) {
            let (to, from) = (self.hidden(room.normed), self.hidden(room.stream));
            self.norm(to, from, weight, None, tokens, config.hidden)?;
        }
        for (index, layer) in layers.iter().enumerate() {
            self.attend(step, index, layer)?;
            let next = layers.get(index + 1).and_then(|next| next.before_attention);
            self.add(layer.after_attention, layer.before_feed, tokens)?;
            self.feed(layer, tokens)?;
            self.add(layer.after_feed, next, tokens)?;
        }
        self.states(step)?;
        self.head(step)
    }

    /// What the next part of a layer reads: the normed stream, or the stream where no norm comes first.
    fn input(&self, norm: Option<Spot>) -> Region {
        match norm {
            Some(_) => self.room.normed,
            None => self.room.stream,
        }
    }

    /// Adds what a part left in `normed` to the stream and norms that for the next part.
    fn add(&self, after: Option<Spot>, before: Option<Spot>, tokens: usize) -> Result<(), DeviceError> {
        let room = &self.room;
        self.kernels.residual_norm(
            before.map(|_| room.normed),
            room.stream,
            room.normed,
            after.map(|spot| self.at(spot)),
            before.map(|spot| self.at(spot)),
            tokens,
            self.config.hidden,
            self.config.residual_scale,
            self.eps(),
        )
    }

    fn attend(&self, step: Step<'_>, index: usize, layer: &LayerSpot) -> Result<(), DeviceError> {
        let (room, config, kernels) = (&self.room, &self.config, &self.kernels);
        let Shape {
            tokens,
            singles,
            multis,
            longest,
            width,
            context,
            ..
        } = *step.shape;
        let heads = self.attention(index);
        let fused = config.heads.fused_width();
        let query_width = config.heads.query_width();
        let qkv = Rows {
            at: room.qkv,
            stride: fused,
        };
        self.product(
            &layer.projection,
            self.input(layer.before_attention),
            tokens,
            half(qkv),
        )?;
        let whole_norms = config.query_key_norm == QueryKeyNorm::Whole;
        if let (true, Some(query_norm), Some(key_norm)) = (whole_norms, layer.query_norm, layer.key_norm) {
            let keys = Rows {
                at: room.qkv.from(2 * query_width as u64),
                stride: fused,
            };
            self.norm(qkv, qkv, query_norm, None, tokens, query_width)?;
            self.norm(keys, keys, key_norm, None, tokens, config.heads.kv_width())?;
        }
        let per_head = |spot: Option<Spot>| spot.filter(|_| !whole_norms).map(|spot| self.at(spot));
        // A layer's keys, then its values; a page's layers one after the other.
        let layer_at = |place: usize| self.arena.from(place as u64 * self.page.stride);
        let (keys, values) = (layer_at(2 * index), layer_at(2 * index + 1));
        let rope = config.layers[index].rope;
        let (cos, sin, rotary_dim) = match rope {
            Some(rope) => self.turn(step, rope),
            // Nothing turns, and nothing is read.
            None => (room.stats, room.stats, 0),
        };
        let turn = Turn {
            qkv: room.qkv,
            keys,
            values,
            cos,
            sin,
            table_rows: step.words(step.layout.table_rows[rope.unwrap_or(0)], tokens),
            slots: step.words(step.layout.slots, tokens),
            query_norm: per_head(layer.query_norm),
            key_norm: per_head(layer.key_norm),
            rotary_dim,
            eps: self.eps(),
        };
        kernels.rope_kv(&turn, heads, tokens)?;
        let tables = step.words(step.layout.tables, (singles + multis) * width);
        let positions = step.words(step.layout.positions, tokens);
        let pages = |first: usize, from_row: usize| Pages {
            keys,
            values,
            tables: tables.from((4 * first * width) as u64),
            table_width: width,
            positions: positions.from(4 * from_row as u64),
        };
        let splits = heads.splits(context);
        let at_once = self.rows_of_partials(&heads, splits);
        let mut first = 0;
        while first < singles {
            let rows = at_once.min(singles - first);
            kernels.decode_attention(
                room.attended.from(2 * (first * query_width) as u64),
                room.qkv.from(2 * (first * fused) as u64),
                pages(first, first),
                heads,
                room.partial,
                room.stats,
                rows,
                splits,
            )?;
            first += rows;
        }
        if multis > 0 {
            let cu_seqlens = step.words(step.layout.cu_seqlens, multis + 1);
            let pages = pages(singles, 0);
            kernels.prefill_attention(room.attended, room.qkv, pages, heads, cu_seqlens, multis, longest)?;
        }
        let out = Rows {
            at: room.normed,
            stride: config.hidden,
        };
        self.product(&layer.output, room.attended, tokens, half(out))
    }

    fn rows_of_partials(&self, heads: &Attention, splits: usize) -> usize {
        let one = (heads.query_heads * splits * heads.dim * 4) as u64;
        let rows = (self.room.partial.bytes / one) as usize;
        assert!(rows > 0, "{splits} splits of a row have no room");
        rows
    }

    /// Cosines, sines and how many values turn.
    fn turn(&self, step: Step<'_>, rope: usize) -> (Region, Region, usize) {
        let table = &self.ropes[rope];
        let regions = match (table.regions(), step.layout.turns[rope]) {
            (Some(regions), _) => regions,
            (None, Some((cos, sin))) => {
                let numbers = step.shape.tokens * table.rotary_dim() / 2;
                (step.words(cos, numbers), step.words(sin, numbers))
            }
            (None, None) => (self.room.stats, self.room.stats),
        };
        (regions.0, regions.1, table.rotary_dim())
    }

    fn feed(&self, layer: &LayerSpot, tokens: usize) -> Result<(), DeviceError> {
        let (room, kernels) = (&self.room, &self.kernels);
        let x = self.input(layer.before_feed);
        match &layer.feed {
            FeedSpot::Dense { gate_up, down, inner } => {
                let wide = Rows {
                    at: room.gate_up,
                    stride: 2 * inner,
                };
                self.product(gate_up, x, tokens, half(wide))?;
                kernels.gated(
                    gate(self.config.activation),
                    room.gated,
                    room.gate_up,
                    tokens,
                    *inner,
                )?;
                self.product(down, room.gated, tokens, half(self.hidden(room.normed)))
            }
            FeedSpot::Experts(experts) => self.experts(experts, x, tokens),
        }
    }

    fn experts(&self, experts: &ExpertsSpot, x: Region, tokens: usize) -> Result<(), DeviceError> {
        let (room, kernels) = (&self.room, &self.kernels);
        let &ExpertsSpot {
            count, used, inner, ..
        } = experts;
        let logits = Out {
            rows: Rows {
                at: room.router,
                stride: count,
            },
            wide: true,
        };
        self.product(&experts.router, x, tokens, logits)?;
        let calls = Calls {
            weights: room.shares,
            experts: room.experts,
            places: room.places,
            starts: room.starts,
            count,
            used,
        };
        kernels.route(calls, room.router, tokens, experts.renormalise)?;
        kernels.by_experts(
            room.gate_up,
            x,
            self.matrix(&experts.gate_up),
            calls,
            tokens,
            used,
        )?;
        kernels.gated(
            gate(self.config.activation),
            room.gated,
            room.gate_up,
            tokens * used,
            inner,
        )?;
        kernels.by_experts(
            room.answers,
            room.gated,
            self.matrix(&experts.down),
            calls,
            tokens,
            1,
        )?;
        kernels.combine(room.normed, room.answers, calls, tokens, self.config.hidden)
    }

    /// The hidden states asked for, normed.
    fn states(&self, step: Step<'_>) -> Result<(), DeviceError> {
        let rows = step.words(step.layout.state_rows, step.shape.states);
        self.final_norm(self.room.states, rows, step.shape.states)
    }

    /// Logits of the rows asked for, and a token of each.
    fn head(&self, step: Step<'_>) -> Result<(), DeviceError> {
        let (room, config, kernels) = (&self.room, &self.config, &self.kernels);
        let Shape { heads, .. } = *step.shape;
        if heads == 0 {
            return Ok(());
        }
        self.final_norm(room.head_in, step.words(step.layout.head_rows, heads), heads)?;
        let vocabulary = config.vocabulary;
        let logits = Out {
            rows: Rows {
                at: room.logits,
                stride: vocabulary,
            },
            wide: true,
        };
        self.product(&self.blueprint.head, room.head_in, heads, logits)?;
        if config.logits_divisor != 1.0 || config.final_softcap.is_some() {
            let cap = config.final_softcap.unwrap_or(0.0);
            kernels.finish_logits(room.logits, heads * vocabulary, config.logits_divisor, cap)?;
        }
        if vocabulary > MOST_SAMPLED {
            return Ok(());
        }
        let settings = step.words(step.layout.samples, heads * SAMPLE_WORDS);
        let entries = step.inputs.from(4 * step.layout.entries as u64);
        kernels.adjust(room.logits, settings, entries, entries, heads, vocabulary)?;
        kernels.sample(
            room.tokens,
            room.logprobs,
            room.logits,
            settings,
            heads,
            vocabulary,
        )
    }

    fn final_norm(&self, to: Region, rows: Region, count: usize) -> Result<(), DeviceError> {
        let (to, from) = (self.hidden(to), self.hidden(self.room.stream));
        self.norm(
            to,
            from,
            self.blueprint.final_norm,
            Some(rows),
            count,
            self.config.hidden,
        )
    }

    fn norm(
        &self,
        to: Rows,
        from: Rows,
        weight: Spot,
        which: Option<Region>,
        rows: usize,
        width: usize,
    ) -> Result<(), DeviceError> {
        self.kernels
            .rms_norm(to, from, self.at(weight), which, rows, width, self.eps())
    }

    /// `out = x · linearᵀ + bias`; `x` is `[rows, inputs]` without gaps.
    fn product(&self, linear: &LinearSpot, x: Region, rows: usize, out: Out) -> Result<(), DeviceError> {
        let number = if out.wide { 4 } else { Half::BYTES as u64 };
        for part in &linear.parts {
            let matrix = self.matrix(part);
            let bias = linear.bias.map(|bias| self.at(bias).from(2 * part.first as u64));
            let to = |row: usize| Out {
                rows: Rows {
                    at: out
                        .rows
                        .at
                        .from((row * out.rows.stride + part.first) as u64 * number),
                    stride: out.rows.stride,
                },
                ..out
            };
            let dense = match matrix.kind {
                Kind::Half => Some(matrix),
                _ if Kind::Half.bytes(matrix.inputs * matrix.outputs) <= self.room.dense.bytes => {
                    Some(Matrix {
                        kind: Kind::Half,
                        at: self.room.dense,
                        ..matrix
                    })
                }
                // The head has few rows at a time.
                _ => None,
            };
            if let (Some(dense), true, true) = (dense, rows > FEW_ROWS, !out.wide || bias.is_none()) {
                if matrix.kind != Kind::Half {
                    self.kernels.dequantise(dense.at, matrix)?;
                }
                self.kernels.multiply(to(0), x, dense, rows)?;
                if let Some(bias) = bias {
                    self.kernels.add_bias(to(0).rows, bias, rows, part.outputs)?;
                }
                continue;
            }
            for first in (0..rows).step_by(FEW_ROWS) {
                let x = Rows {
                    at: x.from(2 * (first * part.inputs) as u64),
                    stride: part.inputs,
                };
                self.kernels
                    .gemv(to(first), x, matrix, bias, FEW_ROWS.min(rows - first))?;
            }
        }
        Ok(())
    }

    fn attention(&self, index: usize) -> Attention {
        let config = &self.config;
        Attention {
            query_heads: config.heads.query,
            kv_heads: config.heads.kv,
            dim: config.heads.dim,
            window: config.layers[index].window.unwrap_or(0),
            softcap: config.attention_softcap.unwrap_or(0.0),
            scale: config.attention_scale,
        }
    }

    fn matrix(&self, spot: &MatrixSpot) -> Matrix {
        Matrix {
            kind: spot.kind,
            at: self.at(spot.spot),
            inputs: spot.inputs,
            outputs: spot.outputs,
        }
    }

    fn at(&self, spot: Spot) -> Region {
        self.weights.part(spot.offset, spot.bytes)
    }

    fn hidden(&self, at: Region) -> Rows {
        Rows {
            at,
            stride: self.config.hidden,
        }
    }

    fn eps(&self) -> f32 {
        self.config.norm_eps as f32
    }
}

fn half(rows: Rows) -> Out {
    Out { rows, wide: false }
}
