//! Where every tensor of a decoder will lie in one stretch of device memory, known before any of it is taken.

use super::kernels::{Gate, Kind};
use crate::model::config::{Activation, DecoderConfig, FeedConfig, Naming, NormPlaces, QueryKeyNorm};

/// Every tensor begins at a multiple of this: what cuBLAS and 128-bit reads like best.
const ALIGNMENT: u64 = 256;

/// A stretch from the start of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub offset: u64,
    pub bytes: u64,
}

/// A matrix to be, `[outputs, inputs]`, whose outputs stand in those of its product from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixSpot {
    pub kind: Kind,
    pub spot: Spot,
    pub inputs: usize,
    pub outputs: usize,
    pub first: usize,
}

/// One or more matrices of the same inputs whose outputs stand side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpot {
    pub parts: Vec<MatrixSpot>,
    /// Half floats, `[outputs]`.
    pub bias: Option<Spot>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Experts' matrices one after the other; the spot is the first one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertsSpot {
    pub router: LinearSpot,
    pub gate_up: MatrixSpot,
    pub down: MatrixSpot,
    pub count: usize,
    pub used: usize,
    pub inner: usize,
    pub renormalise: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedSpot {
    Dense {
        gate_up: LinearSpot,
        down: LinearSpot,
        inner: usize,
    },
    Experts(ExpertsSpot),
}

/// Norms are f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpot {
    pub before_attention: Option<Spot>,
    pub after_attention: Option<Spot>,
    pub before_feed: Option<Spot>,
    pub after_feed: Option<Spot>,
    pub projection: LinearSpot,
    pub output: LinearSpot,
    pub query_norm: Option<Spot>,
    pub key_norm: Option<Spot>,
    pub feed: FeedSpot,
}

/// What goes to a spot.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// The tensor's name as transformers has it.
    pub name: String,
    /// `[rows, columns]`; a vector has one column.
    pub rows: usize,
    pub columns: usize,
    /// The tensor holds this many such matrices, all of which go here.
    pub stacked: Option<usize>,
    pub spot: Spot,
    pub form: Form,
}

/// How a tensor's numbers are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Matrix(Kind),
    /// Half floats.
    Bias,
    /// f32 with this added.
    Norm(f32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    pub embedding: MatrixSpot,
    pub head: LinearSpot,
    pub layers: Vec<LayerSpot>,
    pub final_norm: Spot,
    pub fills: Vec<Fill>,
    pub bytes: u64,
}

/// What is known of the file's tensors: how each is held on the device, and whether it has one at all.
pub trait Stock {
    fn kind(&self, name: &str, columns: usize) -> Kind;
    fn contains(&self, name: &str) -> bool;
}

pub fn gate(activation: Activation) -> Gate {
    match activation {
        Activation::Silu => Gate::Silu,
        Activation::GeluTanh => Gate::GeluTanh,
        Activation::GeluErf => Gate::GeluErf,
        Activation::Relu => Gate::Relu,
    }
}

impl Blueprint {
    pub fn of(config: &DecoderConfig, stock: &dyn Stock) -> Self {
        let mut draft = Draft {
            config,
            stock,
            fills: Vec::new(),
            end: 0,
        };
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let table = draft.linear(&[("model.embed_tokens".to_owned(), vocabulary)], hidden, false);
        let embedding = table.parts[0];
        let head = if config.tied_head {
            table
        } else {
            draft.linear(&[("lm_head".to_owned(), vocabulary)], hidden, false)
        };
        let layers = (0..config.layers.len()).map(|index| draft.layer(index)).collect();
        let final_norm = draft.norm("model.norm", hidden);
        Self {
            embedding,
            head,
            layers,
            final_norm,
            bytes: draft.end,
            fills: draft.fills,
        }
    }
}

struct Draft<'a> {
    config: &'a DecoderConfig,
    stock: &'a dyn Stock,
    fills: Vec<Fill>,
    end: u64,
}

impl Draft<'_> {
    fn take(&mut self, bytes: u64) -> Spot {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + bytes;
        Spot { offset, bytes }
    }

    fn norm(&mut self, name: &str, width: usize) -> Spot {
        let spot = self.take(4 * width as u64);
        self.fills.push(Fill {
            name: format!("{name}.weight"),
            rows: width,
            columns: 1,
            stacked: None,
            spot,
            form: Form::Norm(self.config.norm_offset),
        });
        spot
    }

    /// The matrices called `names` (without their `.weight`), one above the other: `(name, outputs)` each.
    fn linear(&mut self, names: &[(String, usize)], inputs: usize, bias: bool) -> LinearSpot {
        let outputs = names.iter().map(|(_, outputs)| outputs).sum();
        let mut parts: Vec<MatrixSpot> = Vec::new();
        let mut first = 0;
        for (name, rows) in names {
            let weight = format!("{name}.weight");
            let kind = self.stock.kind(&weight, inputs);
            let bytes = kind.bytes(rows * inputs);
            // Half floats beside half floats make one matrix, which is multiplied at once.
            let spot = match parts.last_mut() {
                Some(last) if last.kind == Kind::Half && kind == Kind::Half => {
                    let spot = Spot {
                        offset: last.spot.offset + last.spot.bytes,
                        bytes,
                    };
                    last.spot.bytes += bytes;
                    last.outputs += rows;
                    self.end = spot.offset + bytes;
                    spot
                }
                _ => {
                    let spot = self.take(bytes);
                    parts.push(MatrixSpot {
                        kind,
                        spot,
                        inputs,
                        outputs: *rows,
                        first,
                    });
                    spot
                }
            };
            first += rows;
            self.fills.push(Fill {
                name: weight,
                rows: *rows,
                columns: inputs,
                stacked: None,
                spot,
                form: Form::Matrix(kind),
            });
        }
        LinearSpot {
            parts,
            bias: bias.then(|| self.bias(names)),
            inputs,
            outputs,
        }
    }

    fn bias(&mut self, names: &[(String, usize)]) -> Spot {
        let all: usize = names.iter().map(|(_, outputs)| outputs).sum();
        let whole = self.take(2 * all as u64);
        let mut offset = whole.offset;
        for (name, rows) in names {
            let bytes = 2 * *rows as u64;
            self.fills.push(Fill {
                name: format!("{name}.bias"),
                rows: *rows,
                columns: 1,
                stacked: None,
                spot: Spot { offset, bytes },
                form: Form::Bias,
            });
            offset += bytes;
        }
        whole
    }

    fn layer(&mut self, index: usize) -> LayerSpot {
        let config = self.config;
        let layer = format!("model.layers.{index}");
        let heads = config.heads;
        let (hidden, query_width, kv_width) = (config.hidden, heads.query_width(), heads.kv_width());
        let attention = |part: &str| format!("{layer}.self_attn.{part}");
        let named = |name: &str| format!("{layer}.{name}");
        let (before_attention, after_attention, before_feed, after_feed) = match config.norms {
            NormPlaces::Before => (
                Some("input_layernorm"),
                None,
                Some("post_attention_layernorm"),
                None,
            ),
            NormPlaces::Around => (
                Some("input_layernorm"),
                Some("post_attention_layernorm"),
                Some("pre_feedforward_layernorm"),
                Some("post_feedforward_layernorm"),
            ),
            NormPlaces::After => (
                None,
                Some("post_attention_layernorm"),
                None,
                Some("post_feedforward_layernorm"),
            ),
        };
        let mut norm = |name: Option<&str>| name.map(|name| self.norm(&named(name), hidden));
        let before_attention = norm(before_attention);
        let after_attention = norm(after_attention);
        let before_feed = norm(before_feed);
        let after_feed = norm(after_feed);
        let (query_norm, key_norm) = match config.query_key_norm {
            QueryKeyNorm::None => (None, None),
            QueryKeyNorm::PerHead => (Some(heads.dim), Some(heads.dim)),
            QueryKeyNorm::Whole => (Some(query_width), Some(kv_width)),
        };
        let query_norm = query_norm.map(|width| self.norm(&attention("q_norm"), width));
        let key_norm = key_norm.map(|width| self.norm(&attention("k_norm"), width));
        let names = match config.naming {
            Naming::Fused => vec![(attention("qkv_proj"), query_width + 2 * kv_width)],
            _ => vec![
                (attention("q_proj"), query_width),
                (attention("k_proj"), kv_width),
                (attention("v_proj"), kv_width),
            ],
        };
        LayerSpot {
            before_attention,
            after_attention,
            before_feed,
            after_feed,
            projection: self.linear(&names, hidden, config.biases.query_key_value),
            output: self.linear(
                &[(attention("o_proj"), hidden)],
                query_width,
                config.biases.output,
            ),
            query_norm,
            key_norm,
            feed: self.feed(&layer, &config.layers[index].feed),
        }
    }

    fn feed(&mut self, layer: &str, feed: &FeedConfig) -> FeedSpot {
        let config = self.config;
        let hidden = config.hidden;
        match *feed {
            FeedConfig::Dense { inner } => {
                let base = format!("{layer}.mlp");
                let gate_up = match config.naming {
                    Naming::Fused => vec![(format!("{base}.gate_up_proj"), 2 * inner)],
                    _ => vec![
                        (format!("{base}.gate_proj"), inner),
                        (format!("{base}.up_proj"), inner),
                    ],
                };
                let bias = config.biases.feed;
                FeedSpot::Dense {
                    gate_up: self.linear(&gate_up, hidden, bias),
                    down: self.linear(&[(format!("{base}.down_proj"), hidden)], inner, bias),
                    inner,
                }
            }
            FeedConfig::Experts {
                count,
                used,
                inner,
                renormalise,
            } => {
                let sparse = format!("{layer}.block_sparse_moe");
                let is_sparse =
                    config.naming == Naming::Mixtral && self.stock.contains(&format!("{sparse}.gate.weight"));
                let base = if is_sparse { sparse } else { format!("{layer}.mlp") };
                FeedSpot::Experts(ExpertsSpot {
                    router: self.linear(&[(format!("{base}.gate"), count)], hidden, false),
                    gate_up: self.experts(
                        &base,
                        "gate_up_proj",
                        &["gate_proj", "up_proj"],
                        count,
                        inner,
                        hidden,
                    ),
                    down: self.experts(&base, "down_proj", &["down_proj"], count, hidden, inner),
                    count,
                    used,
                    inner,
                    renormalise,
                })
            }
        }
    }

    /// `count` experts' matrices in one stretch, each of `parts` with `rows` rows. All are of one kind: where the file
    /// mixes kinds they become half floats.
    fn experts(
        &mut self,
        base: &str,
        stacked: &str,
        parts: &[&str],
        count: usize,
        rows: usize,
        columns: usize,
    ) -> MatrixSpot {
        let together = format!("{base}.experts.{stacked}");
        let outputs = rows * parts.len();
        if self.stock.contains(&together) {
            let spot = self.take(Kind::Half.bytes(count * outputs * columns));
            self.fills.push(Fill {
                name: together,
                rows: outputs,
                columns,
                stacked: Some(count),
                spot,
                form: Form::Matrix(Kind::Half),
            });
            return MatrixSpot {
                kind: Kind::Half,
                spot,
                inputs: columns,
                outputs,
                first: 0,
            };
        }
        let mixtral = self.config.naming == Naming::Mixtral;
        let part_name = |part: &str| match part {
            "gate_proj" if mixtral => "w1".to_owned(),
            "up_proj" if mixtral => "w3".to_owned(),
            "down_proj" if mixtral => "w2".to_owned(),
            part => part.to_owned(),
        };
        let name = |expert: usize, part: &str| format!("{base}.experts.{expert}.{}.weight", part_name(part));
        let names: Vec<String> = (0..count)
            .flat_map(|expert| parts.iter().map(move |part| (expert, *part)))
            .map(|(expert, part)| name(expert, part))
            .collect();
        let mut kinds = names.iter().map(|name| self.stock.kind(name, columns));
        let first = kinds.next().unwrap_or(Kind::Half);
        let kind = if kinds.all(|kind| kind == first) {
            first
        } else {
            Kind::Half
        };
        // The kernels find the planes of a packed matrix by its rows, all experts' together.
        let kind = if kind == Kind::Q4K || kind == Kind::Half {
            kind
        } else {
            Kind::Half
        };
        let bytes = kind.bytes(rows * columns);
        let spot = self.take(bytes * names.len() as u64);
        for (place, name) in (0u64..).zip(names) {
            self.fills.push(Fill {
                name,
                rows,
                columns,
                stacked: None,
                spot: Spot {
                    offset: spot.offset + place * bytes,
                    bytes,
                },
                form: Form::Matrix(kind),
            });
        }
        MatrixSpot {
            kind,
            spot,
            inputs: columns,
            outputs,
            first: 0,
        }
    }
}
