//! One block of a decoder: attention and the feed-forward part, with norms where the family has them.

use candle_core::Tensor;

use super::ModelError;
use super::attention::{self, AttentionSpec, Heads};
use super::batch::Batch;
use super::config::{DecoderConfig, Naming, NormPlaces, QueryKeyNorm};
use super::elementwise::add_scaled;
use super::feed::Feed;
use super::kv::KvPages;
use super::linear::Linear;
use super::norm::Norm;
use super::rotary::Rotary;
use super::weights::Weights;

pub struct Block {
    before_attention: Option<Norm>,
    after_attention: Option<Norm>,
    before_feed: Option<Norm>,
    after_feed: Option<Norm>,
    /// Queries, keys and values side by side.
    projection: Linear,
    output: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    attention: AttentionSpec,
    rope: Option<usize>,
    feed: Feed,
    residual_scale: f32,
}

impl Block {
    pub fn load(weights: &Weights, config: &DecoderConfig, index: usize) -> Result<Self, ModelError> {
        let layer = format!("model.layers.{index}");
        let shape = &config.layers[index];
        let Heads { query, kv, dim } = config.heads;
        let (query_width, kv_width) = (query * dim, kv * dim);
        let attention = |part: &str| format!("{layer}.self_attn.{part}");
        let projection = match config.naming {
            Naming::Fused => vec![(attention("qkv_proj"), query_width + 2 * kv_width)],
            _ => vec![
                (attention("q_proj"), query_width),
                (attention("k_proj"), kv_width),
                (attention("v_proj"), kv_width),
            ],
        };
        let norm =
            |name: &str| Norm::load(weights, config, &format!("{layer}.{name}"), config.hidden).map(Some);
        let (before_attention, after_attention, before_feed, after_feed) = match config.norms {
            NormPlaces::Before => (
                norm("input_layernorm")?,
                None,
                norm("post_attention_layernorm")?,
                None,
            ),
            NormPlaces::Around => (
                norm("input_layernorm")?,
                norm("post_attention_layernorm")?,
                norm("pre_feedforward_layernorm")?,
                norm("post_feedforward_layernorm")?,
            ),
            NormPlaces::After => (
                None,
                norm("post_attention_layernorm")?,
                None,
                norm("post_feedforward_layernorm")?,
            ),
        };
        let (query_norm, key_norm) = match config.query_key_norm {
            QueryKeyNorm::None => (None, None),
            QueryKeyNorm::PerHead => (
                Some(Norm::load(weights, config, &attention("q_norm"), dim)?),
                Some(Norm::load(weights, config, &attention("k_norm"), dim)?),
            ),
            QueryKeyNorm::Whole => (
                Some(Norm::load(weights, config, &attention("q_norm"), query_width)?),
                Some(Norm::load(weights, config, &attention("k_norm"), kv_width)?),
            ),
        };
        Ok(Self {
            before_attention,
            after_attention,
            before_feed,
            after_feed,
            projection: Linear::load(weights, &projection, config.hidden, config.biases.query_key_value)?,
            output: Linear::load(
                weights,
                &[(attention("o_proj"), config.hidden)],
                query_width,
                config.biases.output,
            )?,
            query_norm,
            key_norm,
            attention: AttentionSpec {
                heads: config.heads,
                scale: config.attention_scale,
                window: shape.window,
                softcap: config.attention_softcap,
            },
            rope: shape.rope,
            feed: Feed::load(weights, config, &shape.feed, &layer)?,
            residual_scale: config.residual_scale,
        })
    }

    /// `hidden` is `[tokens, hidden]`; `rotaries` are the batch's tables of every rotary embedding of the model.
    pub fn forward(
        &self,
        hidden: Tensor,
        index: usize,
        batch: &Batch,
        rotaries: &[Rotary],
        cache: &mut KvPages,
    ) -> Result<Tensor, ModelError> {
        let attended = self.attend(
            &normed(&self.before_attention, &hidden)?,
            index,
            batch,
            rotaries,
            cache,
        )?;
        let hidden = add_scaled(
            &hidden,
            &normed(&self.after_attention, &attended)?,
            self.residual_scale,
        )?;
        let fed = self.feed.forward(&normed(&self.before_feed, &hidden)?)?;
        Ok(add_scaled(
            &hidden,
            &normed(&self.after_feed, &fed)?,
            self.residual_scale,
        )?)
    }

    fn attend(
        &self,
        x: &Tensor,
        index: usize,
        batch: &Batch,
        rotaries: &[Rotary],
        cache: &mut KvPages,
    ) -> Result<Tensor, ModelError> {
        let heads = self.attention.heads;
        let mut fused = self.projection.forward_values(x)?;
        let (query_width, kv_width) = (heads.query * heads.dim, heads.kv * heads.dim);
        if let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) {
            for row in fused.chunks_exact_mut(heads.fused_width()) {
                query_norm.apply(&mut row[..query_width]);
                key_norm.apply(&mut row[query_width..query_width + kv_width]);
            }
        }
        let rotary = self.rope.map(|rope| &rotaries[rope]);
        attention::turn_and_store(&mut fused, batch, rotary, heads, index, cache)?;
        let attended = attention::attend(&fused, batch, &self.attention, index, cache);
        let attended = Tensor::from_vec(attended, (batch.input_ids.len(), query_width), x.device())?;
        Ok(self.output.forward(&attended)?)
    }

    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.projection, &self.output]
            .into_iter()
            .chain(self.feed.linears())
    }

    pub fn norm_parameters(&self) -> usize {
        [
            &self.before_attention,
            &self.after_attention,
            &self.before_feed,
            &self.after_feed,
            &self.query_norm,
            &self.key_norm,
        ]
        .into_iter()
        .flatten()
        .map(Norm::parameters)
        .sum()
    }
}

fn normed(norm: &Option<Norm>, x: &Tensor) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x.clone()),
    }
}
