//! Cosines and sines on the device: computed once for all positions where they depend on nothing else.

use std::sync::Arc;

use super::device::{Device, DeviceError, Memory, Region};
use super::upload::upload_now;
use crate::model::rotary::{Rope, RopeScaling};

pub struct RopeTable {
    rope: Rope,
    /// Positions that the tables cover, once for each regime; `None` where they come with each step.
    tables: Option<(Memory, Memory)>,
    positions: usize,
}

impl RopeTable {
    /// Device bytes of a rope's tables.
    pub fn bytes(rope: &Rope, positions: usize) -> u64 {
        let half = rope.rotary_dim as u64 / 2;
        2 * 4 * half * (positions * regimes(rope)) as u64
    }

    pub fn new(device: &Arc<dyn Device>, rope: &Rope, positions: usize) -> Result<Self, DeviceError> {
        let mut table = Self {
            rope: rope.clone(),
            tables: None,
            positions,
        };
        let count = regimes(rope);
        if count == 0 {
            return Ok(table);
        }
        let places: Vec<u32> = (0..count).flat_map(|_| 0..positions as u32).collect();
        let extents: Vec<u32> = (0..count)
            .flat_map(|regime| std::iter::repeat_n(extent_of(rope, regime), positions))
            .collect();
        let rotary = rope.tables(&places, &extents);
        let put = |numbers: &[f32]| -> Result<Memory, DeviceError> {
            let memory = Memory::new(device, size_of_val(numbers) as u64, "the rotary tables")?;
            upload_now(device, memory.whole(), bytemuck::cast_slice(numbers))?;
            Ok(memory)
        };
        table.tables = Some((put(rotary.cosines())?, put(rotary.sines())?));
        Ok(table)
    }

    pub fn rotary_dim(&self) -> usize {
        self.rope.rotary_dim
    }

    /// Cosines and sines; `None` where they come with each step.
    pub fn regions(&self) -> Option<(Region, Region)> {
        self.tables.as_ref().map(|(cos, sin)| (cos.whole(), sin.whole()))
    }

    /// Numbers of a token's cosines where they come with each step.
    pub fn comes_with_steps(&self) -> Option<usize> {
        self.tables.is_none().then_some(self.rope.rotary_dim / 2)
    }

    /// The row of the tables for token `index` of a step.
    pub fn row(&self, index: usize, position: u32, extent: u32) -> u32 {
        match &self.rope.scaling {
            RopeScaling::Dynamic { .. } => index as u32,
            RopeScaling::LongRope(long) if extent as usize > long.original_max => {
                position + self.positions as u32
            }
            _ => position,
        }
    }

    pub fn rope(&self) -> &Rope {
        &self.rope
    }
}

/// How many sets of frequencies there are; 0 for as many as there are lengths.
fn regimes(rope: &Rope) -> usize {
    match rope.scaling {
        RopeScaling::Dynamic { .. } => 0,
        RopeScaling::LongRope(_) => 2,
        _ => 1,
    }
}

/// A sequence's length that puts it into a regime.
fn extent_of(rope: &Rope, regime: usize) -> u32 {
    match &rope.scaling {
        RopeScaling::LongRope(long) => (long.original_max + regime) as u32,
        _ => 0,
    }
}
