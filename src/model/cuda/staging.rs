//! One step's inputs in one stretch of memory, so that one copy brings them to the device.
//!
//! Where each part lies follows from the step's [`Shape`] alone. A captured graph therefore finds its inputs where they
//! were when it was captured, as long as the shapes are equal.

use super::device::{Device, DeviceError, Memory, Pinned, Region};
use super::kernels::{NOWHERE, SAMPLE_WORDS};
use crate::model::choice::Choice;
use std::sync::Arc;

/// Tables of fewer pages are padded to it, so that short contexts share a graph.
const LEAST_WIDTH: usize = 16;

/// The pages of a table's row: a power of two, for few graphs to be enough.
pub fn table_width(pages: usize) -> usize {
    pages.next_power_of_two().max(LEAST_WIDTH)
}

/// What of a step decides which kernels run and how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub tokens: usize,
    /// Sequences of one token, whose tokens come first.
    pub singles: usize,
    /// Sequences of several.
    pub multis: usize,
    /// Tokens of the longest of those.
    pub longest: usize,
    /// Pages of a row of the tables.
    pub width: usize,
    /// Tokens that the longest context of a single may have.
    pub context: usize,
    /// Rows whose logits are wanted.
    pub heads: usize,
    /// Rows whose hidden states are wanted.
    pub states: usize,
}

/// Where the parts of a step's inputs lie, in 32-bit words from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub ids: usize,
    pub positions: usize,
    pub slots: usize,
    /// One for each rotary embedding.
    pub table_rows: Vec<usize>,
    pub head_rows: usize,
    pub state_rows: usize,
    pub cu_seqlens: usize,
    pub tables: usize,
    pub samples: usize,
    /// Cosines and sines of rotary embeddings that are computed anew for each step.
    pub turns: Vec<Option<(usize, usize)>>,
    /// From here on pairs of tokens and counts or biases, as many as there happen to be.
    pub entries: usize,
}

impl Layout {
    /// `turns` says for each rotary embedding how many numbers a token's cosines have if they come with the step.
    pub fn of(shape: &Shape, turns: &[Option<usize>]) -> Self {
        let mut end = 0;
        let mut take = |words: usize| {
            let at = end;
            // Kernels read 16 bytes at a time.
            end += usize::next_multiple_of(words, 4);
            at
        };
        let tokens = shape.tokens;
        Self {
            ids: take(tokens),
            positions: take(tokens),
            slots: take(tokens),
            table_rows: turns.iter().map(|_| take(tokens)).collect(),
            head_rows: take(shape.heads),
            state_rows: take(shape.states),
            cu_seqlens: take(shape.multis + 1),
            tables: take((shape.singles + shape.multis) * shape.width),
            samples: take(shape.heads * SAMPLE_WORDS),
            turns: turns
                .iter()
                .map(|half| half.map(|half| (take(tokens * half), take(tokens * half))))
                .collect(),
            entries: take(0),
        }
    }
}

/// The inputs of the steps of one model, in main memory and on the device.
pub struct Staging {
    pinned: Pinned,
    on_device: Memory,
    words: usize,
}

impl Staging {
    pub fn new(device: &Arc<dyn Device>, words: usize) -> Result<Self, DeviceError> {
        Ok(Self {
            pinned: Pinned::new(device, words * 4)?,
            on_device: Memory::new(device, words as u64 * 4, "the inputs of a step")?,
            words,
        })
    }

    pub fn region(&self) -> Region {
        self.on_device.whole()
    }

    /// The words in main memory. The device must have taken the last step's.
    pub fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.pinned.bytes_mut()[..self.words * 4])
    }

    /// Brings the first `words` to the device.
    pub fn send(&self, device: &dyn Device, words: usize) -> Result<(), DeviceError> {
        let bytes = &self.pinned.bytes()[..words * 4];
        // SAFETY: the device memory is as long; the pinned memory is written again only after the step's tokens have
        // come back, which is after this copy on the stream.
        unsafe { device.upload(self.on_device.whole().at, bytes) }
    }
}

/// Writes rows' sampling settings, and their histories and biases behind the parts of fixed length: one list of pairs for
/// both, so that it begins where the shape says.
pub struct Draws<'a> {
    words: &'a mut [u32],
    samples: usize,
    entries: usize,
    written: usize,
}

impl<'a> Draws<'a> {
    pub fn new(words: &'a mut [u32], layout: &Layout, rows: usize) -> Self {
        // A row without settings is greedy, and changes no logit.
        words[layout.samples..layout.samples + rows * SAMPLE_WORDS].fill(0);
        Self {
            samples: layout.samples,
            entries: layout.entries,
            written: 0,
            words,
        }
    }

    /// Writes a row's settings; false when there is no room for its history and biases.
    pub fn put(&mut self, row: usize, choice: &Choice<'_>) -> bool {
        let (first, seen) = (self.written, choice.history.len());
        let end = first + seen + choice.biases.len();
        let Some(room) = self
            .words
            .get_mut(self.entries + 2 * first..self.entries + 2 * end)
        else {
            return false;
        };
        let history = choice.history.iter().map(|seen| [seen.token.0, seen.answered]);
        let biases = choice
            .biases
            .iter()
            .map(|(token, bias)| [token.0, bias.to_bits()]);
        for (place, pair) in room.chunks_exact_mut(2).zip(history.chain(biases)) {
            place.copy_from_slice(&pair);
        }
        self.written = end;
        let settings = [
            choice.temperature.to_bits(),
            choice.top_p.to_bits(),
            choice.min_p.to_bits(),
            choice.top_k,
            choice.repetition_penalty.to_bits(),
            choice.presence_penalty.to_bits(),
            choice.frequency_penalty.to_bits(),
            choice.position,
            choice.seed as u32,
            (choice.seed >> 32) as u32,
            first as u32,
            (first + seen) as u32,
            (first + seen) as u32,
            end as u32,
            0,
            0,
        ];
        self.words[self.samples + row * SAMPLE_WORDS..][..SAMPLE_WORDS].copy_from_slice(&settings);
        true
    }

    /// Where all inputs end, in words.
    pub fn end(&self) -> usize {
        self.entries + 2 * self.written
    }
}

/// Marks the rows from `from` to `to` as padding.
pub fn pad(words: &mut [u32], layout: &Layout, width: usize, from: usize, to: usize) {
    words[layout.ids + from..layout.ids + to].fill(0);
    words[layout.positions + from..layout.positions + to].fill(NOWHERE);
    words[layout.slots + from..layout.slots + to].fill(NOWHERE);
    for &rows in &layout.table_rows {
        words[rows + from..rows + to].fill(0);
    }
    words[layout.tables + from * width..layout.tables + to * width].fill(0);
}
