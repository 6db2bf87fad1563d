//! The feed-forward part of a block: one gated network, or several experts of which a router picks some a token.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::ModelError;
use super::config::{Activation, DecoderConfig, FeedConfig, Naming};
use super::elementwise::gated;
use super::linear::Linear;
use super::weights::{Stored, Weights};

pub enum Feed {
    Dense(Gated),
    Experts(Experts),
}

/// `down(activation(gate(x)) · up(x))`
pub struct Gated {
    gate_up: Linear,
    down: Linear,
    activation: Activation,
}

pub struct Experts {
    /// `[experts, hidden]`
    router: Linear,
    experts: Vec<Gated>,
    used: usize,
    renormalise: bool,
}

impl Feed {
    /// `layer` is the prefix of the layer's names, `model.layers.N`.
    pub fn load(
        weights: &Weights,
        config: &DecoderConfig,
        feed: &FeedConfig,
        layer: &str,
    ) -> Result<Self, ModelError> {
        match *feed {
            FeedConfig::Dense { inner } => {
                Gated::load(weights, config, &format!("{layer}.mlp"), inner).map(Self::Dense)
            }
            FeedConfig::Experts {
                count,
                used,
                inner,
                renormalise,
            } => {
                let part = match config.naming {
                    Naming::Mixtral if weights.contains(&format!("{layer}.block_sparse_moe.gate.weight")) => {
                        "block_sparse_moe"
                    }
                    _ => "mlp",
                };
                let base = format!("{layer}.{part}");
                Ok(Self::Experts(Experts {
                    router: Linear::load(weights, &[(format!("{base}.gate"), count)], config.hidden, false)?,
                    experts: experts(weights, config, &base, count, inner)?,
                    used,
                    renormalise,
                }))
            }
        }
    }

    /// `x` is `[tokens, hidden]`, as is the result.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(gated) => gated.forward(x),
            Self::Experts(experts) => experts.forward(x),
        }
    }

    pub fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense(gated) => vec![&gated.gate_up, &gated.down],
            Self::Experts(experts) => std::iter::once(&experts.router)
                .chain(experts.experts.iter().flat_map(|e| [&e.gate_up, &e.down]))
                .collect(),
        }
    }
}

impl Gated {
    fn load(weights: &Weights, config: &DecoderConfig, base: &str, inner: usize) -> Result<Self, ModelError> {
        let gate_up = match config.naming {
            Naming::Fused => vec![(format!("{base}.gate_up_proj"), 2 * inner)],
            _ => vec![
                (format!("{base}.gate_proj"), inner),
                (format!("{base}.up_proj"), inner),
            ],
        };
        let bias = config.biases.feed;
        Ok(Self {
            gate_up: Linear::load(weights, &gate_up, config.hidden, bias)?,
            down: Linear::load(
                weights,
                &[(format!("{base}.down_proj"), config.hidden)],
                inner,
                bias,
            )?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.down
            .forward(&gated(&self.gate_up.forward(x)?, self.activation)?)
    }
}

/// Experts lie one by one, or all in one tensor as transformers 5 holds them in memory.
fn experts(
    weights: &Weights,
    config: &DecoderConfig,
    base: &str,
    count: usize,
    inner: usize,
) -> Result<Vec<Gated>, ModelError> {
    let hidden = config.hidden;
    let (stacked_gate_up, stacked_down) = (
        format!("{base}.experts.gate_up_proj"),
        format!("{base}.experts.down_proj"),
    );
    if weights.contains(&stacked_gate_up) {
        let gate_up = weights.tensor(&stacked_gate_up, &[count, 2 * inner, hidden])?;
        let down = weights.tensor(&stacked_down, &[count, hidden, inner])?;
        return (0..count)
            .map(|expert| {
                let one =
                    |all: &Tensor| Ok::<_, ModelError>(vec![Stored::Dense(all.get(expert)?.contiguous()?)]);
                Ok(Gated {
                    gate_up: Linear::of(one(&gate_up)?, hidden)?,
                    down: Linear::of(one(&down)?, inner)?,
                    activation: config.activation,
                })
            })
            .collect();
    }
    let [gate, up, down] = match config.naming {
        Naming::Mixtral => ["w1", "w3", "w2"],
        _ => ["gate_proj", "up_proj", "down_proj"],
    };
    (0..count)
        .map(|expert| {
            let name = |part: &str| format!("{base}.experts.{expert}.{part}");
            Ok(Gated {
                gate_up: Linear::load(weights, &[(name(gate), inner), (name(up), inner)], hidden, false)?,
                down: Linear::load(weights, &[(name(down), hidden)], inner, false)?,
                activation: config.activation,
            })
        })
        .collect()
}

impl Experts {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (tokens, hidden) = x.dims2()?;
        let shares = softmax_last_dim(&self.router.forward(x)?)?.to_vec2::<f32>()?;
        // Tokens of each expert, and with what weight: experts go in order, so a token's sum has one order of
        // additions whoever is beside it.
        let mut calls: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); self.experts.len()];
        for (token, shares) in shares.iter().enumerate() {
            for (expert, weight) in self.pick(shares) {
                calls[expert].0.push(token as u32);
                calls[expert].1.push(weight);
            }
        }
        let mut sum = vec![0.0f32; tokens * hidden];
        for (expert, (rows, weights)) in self.experts.iter().zip(calls) {
            if rows.is_empty() {
                continue;
            }
            let chosen = x.index_select(&Tensor::new(rows.as_slice(), &Device::Cpu)?, 0)?;
            let out = expert.forward(&chosen)?;
            super::linear::with_values(&out, |out| {
                for ((&row, weight), out) in rows.iter().zip(weights).zip(out.chunks_exact(hidden)) {
                    for (sum, value) in sum[row as usize * hidden..][..hidden].iter_mut().zip(out) {
                        *sum += weight * value;
                    }
                }
            })?;
        }
        Tensor::from_vec(sum, (tokens, hidden), x.device())
    }

    /// The likeliest experts of a token with their weights; of equals the first.
    fn pick(&self, shares: &[f32]) -> Vec<(usize, f32)> {
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
        order.truncate(self.used);
        let total: f32 = if self.renormalise {
            order.iter().map(|&e| shares[e]).sum()
        } else {
            1.0
        };
        order.into_iter().map(|e| (e, shares[e] / total)).collect()
    }
}
