//! The keys and values of one model on the CPU, in pages that come into being when first used.

use super::ModelError;

/// Tokens a page holds.
pub const PAGE_TOKENS: usize = 32;

/// Pages of f32 keys and values. A page holds every layer: `[layers][key, value][kv_heads][PAGE_TOKENS][head_dim]`,
/// so that one head's keys within a page lie side by side.
pub struct KvPages {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    pages: Vec<Option<Box<[f32]>>>,
}

impl KvPages {
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            layers,
            kv_heads,
            head_dim,
            pages: Vec::new(),
        }
    }

    pub fn values_per_page(&self) -> usize {
        self.layers * 2 * self.head_stride() * self.kv_heads
    }

    /// Values from one head to the next within a page's keys or values of one layer.
    fn head_stride(&self) -> usize {
        PAGE_TOKENS * self.head_dim
    }

    fn offset(&self, layer: usize, value: bool, kv_head: usize) -> usize {
        ((layer * 2 + usize::from(value)) * self.kv_heads + kv_head) * self.head_stride()
    }

    /// Gives `page` its memory if it has none yet.
    pub fn materialise(&mut self, page: usize) {
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        if self.pages[page].is_none() {
            self.pages[page] = Some(vec![0.0; self.values_per_page()].into_boxed_slice());
        }
    }

    /// Gives the memory of `page` back. What it held is lost.
    pub fn release(&mut self, page: usize) {
        if let Some(slot) = self.pages.get_mut(page) {
            *slot = None;
        }
    }

    /// Writes one token's key and value of one layer and head.
    pub fn write(
        &mut self,
        layer: usize,
        kv_head: usize,
        slot: usize,
        key: &[f32],
        value: &[f32],
    ) -> Result<(), ModelError> {
        let (page, place) = (slot / PAGE_TOKENS, slot % PAGE_TOKENS);
        let width = self.head_dim;
        let key_at = self.offset(layer, false, kv_head) + place * width;
        let value_at = self.offset(layer, true, kv_head) + place * width;
        let memory = self
            .pages
            .get_mut(page)
            .and_then(Option::as_mut)
            .ok_or_else(|| ModelError::Compute(format!("KV page {page} is used before it has memory")))?;
        memory[key_at..key_at + width].copy_from_slice(key);
        memory[value_at..value_at + width].copy_from_slice(value);
        Ok(())
    }

    /// Keys and values of one layer and head in `page`, each `[PAGE_TOKENS, head_dim]`.
    pub fn head(&self, layer: usize, kv_head: usize, page: usize) -> (&[f32], &[f32]) {
        let memory = self.pages[page]
            .as_ref()
            .expect("a page is written before it is read");
        let (key, value) = (
            self.offset(layer, false, kv_head),
            self.offset(layer, true, kv_head),
        );
        (
            &memory[key..key + self.head_stride()],
            &memory[value..value + self.head_stride()],
        )
    }
}
