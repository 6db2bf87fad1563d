//! The decoder over a packed batch: one for all families, told apart by their [`DecoderConfig`].

use candle_core::{D, Device, Tensor};

use super::ModelError;
use super::batch::{Batch, Logits};
use super::block::Block;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::kv::KvPages;
use super::linear::{Embedding, Linear, values};
use super::norm::Norm;
use super::rotary::Rotary;
use super::weights::Weights;

pub struct PackedDecoder {
    config: DecoderConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    final_norm: Norm,
    head: Linear,
    cache: KvPages,
    device: Device,
}

impl PackedDecoder {
    pub fn load(config: DecoderConfig, weights: &Weights) -> Result<Self, ModelError> {
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let embedding = Embedding::of(weights.matrix("model.embed_tokens.weight", vocabulary, hidden)?)?;
        let head = if config.tied_head {
            Linear::tied(&embedding)?
        } else {
            Linear::load(weights, &[("lm_head".to_owned(), vocabulary)], hidden, false)?
        };
        let blocks = (0..config.layers.len())
            .map(|index| Block::load(weights, &config, index))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embedding,
            blocks,
            final_norm: Norm::load(weights, &config, "model.norm", hidden)?,
            head,
            cache: KvPages::new(config.layers.len(), config.heads.kv, config.heads.dim),
            device: Device::Cpu,
            config,
        })
    }

    pub fn parameters(&self) -> u64 {
        let own_head = if self.config.tied_head {
            0
        } else {
            self.head.parameters()
        };
        let blocks = self
            .blocks
            .iter()
            .map(|b| b.norm_parameters() + b.linears().map(Linear::parameters).sum::<usize>());
        (self.embedding.parameters() + own_head + self.final_norm.parameters() + blocks.sum::<usize>()) as u64
    }

    /// Memory of the weights as they are held.
    pub fn weight_bytes(&self) -> u64 {
        let own_head = if self.config.tied_head {
            0
        } else {
            self.head.bytes()
        };
        let blocks = self
            .blocks
            .iter()
            .map(|b| b.norm_parameters() * size_of::<f32>() + b.linears().map(Linear::bytes).sum::<usize>());
        (self.embedding.bytes() + own_head + blocks.sum::<usize>()) as u64
    }

    fn hidden_states(&mut self, batch: &Batch) -> Result<Tensor, ModelError> {
        let ids: Vec<u32> = batch.input_ids.iter().map(|t| t.0).collect();
        let rotaries: Vec<Rotary> = self
            .config
            .ropes
            .iter()
            .map(|rope| rope.tables(&batch.positions, &batch.extents))
            .collect();
        let mut hidden = self.embedding.rows(&ids, &self.device)?;
        if self.config.embedding_scale != 1.0 {
            hidden = (hidden * f64::from(self.config.embedding_scale))?;
        }
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = block.forward(hidden, index, batch, &rotaries, &mut self.cache)?;
        }
        Ok(hidden)
    }

    /// Some rows of the last block's output, normed; `rows` must not be empty.
    fn normed(&self, hidden: &Tensor, rows: &[u32]) -> candle_core::Result<Tensor> {
        let rows = Tensor::new(rows, &self.device)?;
        self.final_norm.forward(&hidden.index_select(&rows, 0)?)
    }

    /// Logits of normed hidden states, `[rows, hidden]`.
    fn logits(&self, normed: &Tensor) -> candle_core::Result<Tensor> {
        let mut logits = self.head.forward(normed)?;
        if self.config.logits_divisor != 1.0 {
            logits = (logits / f64::from(self.config.logits_divisor))?;
        }
        match self.config.final_softcap.map(f64::from) {
            Some(cap) => (logits / cap)?.tanh()? * cap,
            None => Ok(logits),
        }
    }
}

impl Decoder for PackedDecoder {
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        let hidden = self.hidden_states(batch)?;
        let logits = if batch.logit_rows.is_empty() {
            Vec::new()
        } else {
            let logits = self.logits(&self.normed(&hidden, &batch.logit_rows)?)?;
            debug_assert_eq!(logits.dim(D::Minus1)?, self.config.vocabulary);
            values(&logits)?
        };
        let logits = Logits::new(logits, self.config.vocabulary);
        if batch.hidden_rows.is_empty() {
            return Ok(logits);
        }
        let states = values(&self.normed(&hidden, &batch.hidden_rows)?)?;
        Ok(logits.with_hidden(states, self.config.hidden))
    }

    fn hidden_width(&self) -> Option<usize> {
        Some(self.config.hidden)
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

    fn cache_salt(&self, prompt_tokens: usize) -> u64 {
        self.config.cache_salt(prompt_tokens)
    }

    fn restarts_at(&self, tokens: usize) -> bool {
        self.config.restarts_at(tokens)
    }
}
