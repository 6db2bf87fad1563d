//! A batch in the order the kernels want: sequences of one token first, then those of several.

use half::{bf16, f16};

use super::device::Half;
use super::kernels::SAMPLE_WORDS;
use super::ropes::RopeTable;
use super::staging::{Draws, Layout, Shape, pad};
use crate::model::PAGE_TOKENS;
use crate::model::batch::Batch;
use crate::model::choice::Choice;

/// Which of a batch's tokens and sequences stand where.
pub struct Packed {
    /// The batch's token that stands at each place.
    pub order: Vec<u32>,
    /// The place of each of the batch's tokens.
    places: Vec<u32>,
    /// The batch's sequence in each row of the tables.
    sequences: Vec<u32>,
    pub singles: usize,
    /// Tokens of the longest sequence of several.
    pub longest: usize,
    /// Tokens that the longest context of a single has.
    pub context: usize,
}

impl Packed {
    pub fn of(batch: &Batch) -> Self {
        let length = |sequence: usize| batch.cu_seqlens[sequence + 1] - batch.cu_seqlens[sequence];
        let (singles, multis): (Vec<usize>, Vec<usize>) =
            (0..batch.sequences()).partition(|&sequence| length(sequence) == 1);
        let context = singles
            .iter()
            .map(|&sequence| batch.positions[batch.cu_seqlens[sequence] as usize] as usize + 1);
        let mut packed = Self {
            order: Vec::with_capacity(batch.input_ids.len()),
            places: vec![0; batch.input_ids.len()],
            sequences: Vec::with_capacity(batch.sequences()),
            singles: singles.len(),
            longest: multis
                .iter()
                .map(|&sequence| length(sequence) as usize)
                .max()
                .unwrap_or(0),
            context: context.max().unwrap_or(0),
        };
        for sequence in singles.into_iter().chain(multis) {
            packed.sequences.push(sequence as u32);
            for token in batch.cu_seqlens[sequence]..batch.cu_seqlens[sequence + 1] {
                packed.places[token as usize] = packed.order.len() as u32;
                packed.order.push(token);
            }
        }
        packed
    }

    pub fn multis(&self) -> usize {
        self.sequences.len() - self.singles
    }

    /// Writes all but the choices. `places` says where the model's pages lie, in strides; `None` comes back when one that
    /// the batch names lies nowhere.
    pub fn write(
        &self,
        words: &mut [u32],
        batch: &Batch,
        shape: &Shape,
        layout: &Layout,
        ropes: &[RopeTable],
        places: &[Option<u32>],
    ) -> Option<()> {
        let page = PAGE_TOKENS as u32;
        let place_of = |number: u32| places.get(number as usize).copied().flatten();
        for (place, &token) in self.order.iter().enumerate() {
            let token = token as usize;
            let slot = batch.slots[token];
            words[layout.ids + place] = batch.input_ids[token].0;
            words[layout.positions + place] = batch.positions[token];
            words[layout.slots + place] = place_of(slot / page)? * page + slot % page;
            for (rope, rows) in ropes.iter().zip(&layout.table_rows) {
                words[rows + place] = rope.row(place, batch.positions[token], batch.extents[token]);
            }
        }
        for (row, &sequence) in self.sequences.iter().enumerate() {
            let first = batch.cu_seqlens[sequence as usize] as usize;
            let last = batch.cu_seqlens[sequence as usize + 1] as usize - 1;
            let used = batch.positions[last] as usize / PAGE_TOKENS + 1;
            debug_assert!(first <= last);
            let table = &mut words[layout.tables + row * shape.width..][..shape.width];
            table.fill(0);
            let numbers = &batch.block_tables[sequence as usize * batch.table_width..][..used];
            for (to, &number) in table.iter_mut().zip(numbers) {
                *to = place_of(number)?;
            }
        }
        if self.singles < shape.singles && self.multis() == 0 {
            pad(words, layout, shape.width, self.singles, shape.singles);
        }
        let mut end = self.singles as u32;
        for (place, &sequence) in std::iter::once(&0)
            .chain(&self.sequences[self.singles..])
            .enumerate()
        {
            if place > 0 {
                end += batch.cu_seqlens[sequence as usize + 1] - batch.cu_seqlens[sequence as usize];
            }
            words[layout.cu_seqlens + place] = end;
        }
        let rows = |words: &mut [u32], at: usize, wanted: &[u32], count: usize| {
            words[at..at + count].fill(0);
            for (to, &row) in words[at..].iter_mut().zip(wanted) {
                *to = self.places[row as usize];
            }
        };
        rows(words, layout.head_rows, &batch.logit_rows, shape.heads);
        rows(words, layout.state_rows, &batch.hidden_rows, shape.states);
        self.write_turns(words, batch, layout, ropes);
        Some(())
    }

    /// Cosines and sines of the ropes whose tables come with the step.
    fn write_turns(&self, words: &mut [u32], batch: &Batch, layout: &Layout, ropes: &[RopeTable]) {
        for (rope, turns) in ropes.iter().zip(&layout.turns) {
            let Some((cos, sin)) = *turns else { continue };
            let of =
                |all: &[u32]| -> Vec<u32> { self.order.iter().map(|&token| all[token as usize]).collect() };
            let rotary = rope.rope().tables(&of(&batch.positions), &of(&batch.extents));
            for (at, numbers) in [(cos, rotary.cosines()), (sin, rotary.sines())] {
                for (to, number) in words[at..].iter_mut().zip(numbers) {
                    *to = number.to_bits();
                }
            }
        }
    }

    /// Writes the settings of the rows that the device is to draw from; which those are, and where all inputs end, in
    /// words.
    pub fn write_choices(
        &self,
        words: &mut [u32],
        batch: &Batch,
        shape: &Shape,
        layout: &Layout,
        choices: &[Option<Choice<'_>>],
    ) -> (Vec<bool>, usize) {
        debug_assert!(layout.samples + shape.heads * SAMPLE_WORDS <= layout.entries);
        let mut draws = Draws::new(words, layout, shape.heads);
        let drawn = (0..batch.logit_rows.len())
            .map(|row| match choices.get(row) {
                Some(Some(choice)) => draws.put(row, choice),
                _ => false,
            })
            .collect();
        (drawn, draws.end())
    }
}

/// A half float as the device writes it.
pub fn widest(half: Half, bytes: [u8; 2]) -> f32 {
    match half {
        Half::F16 => f16::from_le_bytes(bytes).to_f32(),
        Half::Bf16 => bf16::from_le_bytes(bytes).to_f32(),
    }
}
