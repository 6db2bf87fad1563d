//! The Llama family over a packed batch.

use candle_core::{CpuStorage, D, DType, Device, Storage, Tensor};
use candle_nn::ops::{rms_norm, swiglu};

use super::ModelError;
use super::attention::{AttentionSpec, Heads, attend, turn_and_store};
use super::batch::{Batch, Logits};
use super::config::DecoderConfig;
use super::kv::KvPages;
use super::load::Decoder;
use super::rotary::{Rope, RopeScaling};
use super::weights::Weights;

struct Layer {
    attention_norm: Tensor,
    /// Queries, keys and values in one matmul: `[(heads + 2 · kv_heads) · head_dim, hidden]`.
    fused_projection: Tensor,
    output_projection: Tensor,
    feed_norm: Tensor,
    /// Gate above up: `[2 · intermediate, hidden]`.
    gate_up: Tensor,
    down: Tensor,
}

pub struct Llama {
    config: DecoderConfig,
    attention: AttentionSpec,
    rope: Rope,
    embedding: Tensor,
    layers: Vec<Layer>,
    final_norm: Tensor,
    head: Tensor,
    cache: KvPages,
    device: Device,
}

impl Llama {
    pub fn load(config: DecoderConfig, weights: &Weights, device: &Device) -> Result<Self, ModelError> {
        let heads = Heads {
            query: config.heads,
            kv: config.kv_heads,
            dim: config.head_dim,
        };
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (query_width, kv_width) = (heads.query * heads.dim, heads.kv * heads.dim);
        let layer = |index: usize| -> Result<Layer, ModelError> {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let stacked = |parts: &[(&str, usize)]| {
                let names: Vec<_> = parts.iter().map(|(part, rows)| (name(part), *rows)).collect();
                let parts: Vec<_> = names.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
                weights.stacked(&parts, hidden)
            };
            Ok(Layer {
                attention_norm: weights.get(&name("input_layernorm"), &[hidden])?,
                fused_projection: stacked(&[
                    ("self_attn.q_proj", query_width),
                    ("self_attn.k_proj", kv_width),
                    ("self_attn.v_proj", kv_width),
                ])?,
                output_projection: weights.get(&name("self_attn.o_proj"), &[hidden, query_width])?,
                feed_norm: weights.get(&name("post_attention_layernorm"), &[hidden])?,
                gate_up: stacked(&[("mlp.gate_proj", inner), ("mlp.up_proj", inner)])?,
                down: weights.get(&name("mlp.down_proj"), &[hidden, inner])?,
            })
        };
        let embedding = weights.get("model.embed_tokens.weight", &[config.vocabulary, hidden])?;
        let head = if config.tied_head {
            embedding.clone()
        } else {
            weights.get("lm_head.weight", &[config.vocabulary, hidden])?
        };
        Ok(Self {
            attention: AttentionSpec {
                heads,
                scale: (heads.dim as f32).powf(-0.5),
                window: None,
                softcap: None,
            },
            rope: Rope {
                rotary_dim: config.head_dim,
                base: config.rope_theta,
                scaling: RopeScaling::Default,
                max_positions: config.max_positions,
            },
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            final_norm: weights.get("model.norm.weight", &[hidden])?,
            embedding,
            head,
            cache: KvPages::new(config.layers, config.kv_heads, config.head_dim),
            device: device.clone(),
            config,
        })
    }

    pub fn parameters(&self) -> u64 {
        let tied = if self.config.tied_head {
            0
        } else {
            self.head.elem_count()
        };
        let layers = self.layers.iter().map(|l| {
            l.attention_norm.elem_count()
                + l.fused_projection.elem_count()
                + l.output_projection.elem_count()
                + l.feed_norm.elem_count()
                + l.gate_up.elem_count()
                + l.down.elem_count()
        });
        (self.embedding.elem_count() + tied + self.final_norm.elem_count() + layers.sum::<usize>()) as u64
    }

    fn hidden_states(&mut self, batch: &Batch) -> candle_core::Result<Tensor> {
        let eps = self.config.norm_eps as f32;
        let ids: Vec<u32> = batch.input_ids.iter().map(|t| t.0).collect();
        let ids = Tensor::from_vec(ids, batch.input_ids.len(), &self.device)?;
        let rotary = self.rope.tables(&batch.positions, &batch.extents);
        let mut hidden = self.embedding.embedding(&ids)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&hidden, &layer.attention_norm, eps)?;
            let mut fused = values(&normed.matmul(&layer.fused_projection.t()?)?)?;
            let heads = self.attention.heads;
            turn_and_store(&mut fused, batch, Some(&rotary), heads, index, &mut self.cache)
                .map_err(|e| candle_core::Error::Msg(e.to_string()))?;
            let attended = attend(&fused, batch, &self.attention, index, &self.cache);
            let width = heads.query_width();
            let attended = Tensor::from_vec(attended, (batch.input_ids.len(), width), &self.device)?;
            hidden = (hidden + attended.matmul(&layer.output_projection.t()?)?)?;
            let normed = rms_norm(&hidden, &layer.feed_norm, eps)?;
            let activated = swiglu(&normed.matmul(&layer.gate_up.t()?)?)?;
            hidden = (hidden + activated.matmul(&layer.down.t()?)?)?;
        }
        Ok(hidden)
    }
}

impl Decoder for Llama {
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        let hidden = self.hidden_states(batch)?;
        let rows = Tensor::new(batch.logit_rows.as_slice(), &self.device)?;
        let wanted = hidden.index_select(&rows, 0)?;
        let normed = rms_norm(&wanted, &self.final_norm, self.config.norm_eps as f32)?;
        let logits = normed.matmul(&self.head.t()?)?;
        debug_assert_eq!(logits.dim(D::Minus1)?, self.config.vocabulary);
        Ok(Logits::new(values(&logits)?, self.config.vocabulary))
    }

    fn materialise_page(&mut self, page: u32) {
        self.cache.materialise(page as usize);
    }

    fn release_page(&mut self, page: u32) {
        self.cache.release(page as usize);
    }

    fn bytes_per_page(&self) -> u64 {
        (self.cache.values_per_page() * size_of::<f32>()) as u64
    }
}

/// A contiguous f32 tensor's values, copied out.
fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    debug_assert_eq!(tensor.dtype(), DType::F32);
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(all)), Some((from, to))) => Ok(all[from..to].to_vec()),
        _ => tensor.flatten_all()?.to_vec1(),
    }
}
