//! The keys and values of one model on the CPU, in pages that come into being when first used.

use super::ModelError;

/// Tokens a page holds.
pub const PAGE_TOKENS: usize = 32;

/// Values side by side in a vector register; rows of values are padded to whole ones.
pub const LANES: usize = 8;

/// One head's keys and values within a page.
pub struct PageHead<'a> {
    /// `[head_dim][PAGE_TOKENS]`: the same part of all the page's keys lies together, so that a query meets
    /// eight keys with one multiplication.
    pub keys: &'a [[f32; PAGE_TOKENS]],
    /// `[PAGE_TOKENS][padded_dim]`.
    pub values: &'a [f32],
}

/// Pages of f32 keys and values. A page holds every layer and KV head one after the other; see [`PageHead`] for
/// the order within a head.
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
        self.layers * self.kv_heads * self.head_stride()
    }

    /// A head's width in whole vectors.
    pub fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Values from one head to the next within a page.
    fn head_stride(&self) -> usize {
        PAGE_TOKENS * (self.head_dim + self.padded_dim())
    }

    fn offset(&self, layer: usize, kv_head: usize) -> usize {
        (layer * self.kv_heads + kv_head) * self.head_stride()
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
        let (dim, padded) = (self.head_dim, self.padded_dim());
        let (at, stride) = (self.offset(layer, kv_head), self.head_stride());
        let memory = self
            .pages
            .get_mut(page)
            .and_then(Option::as_mut)
            .ok_or_else(|| ModelError::Compute(format!("KV page {page} is used before it has memory")))?;
        let (keys, values) = memory[at..at + stride].split_at_mut(dim * PAGE_TOKENS);
        for (part, &key) in keys.chunks_exact_mut(PAGE_TOKENS).zip(key) {
            part[place] = key;
        }
        values[place * padded..][..dim].copy_from_slice(value);
        Ok(())
    }

    /// Keys and values of one layer and head in `page`, which must have memory.
    pub fn head(&self, layer: usize, kv_head: usize, page: usize) -> PageHead<'_> {
        let memory = self.pages[page]
            .as_ref()
            .expect("a page is written before it is read");
        let head = &memory[self.offset(layer, kv_head)..][..self.head_stride()];
        let (keys, values) = head.split_at(self.head_dim * PAGE_TOKENS);
        PageHead {
            keys: keys.as_chunks().0,
            values,
        }
    }
}
