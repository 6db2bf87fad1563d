//! Weights on their way to the device: read and converted by all cores into one of two pinned buffers while the other is
//! being copied.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};
use rayon::prelude::*;

use super::blueprint::{Fill, Form};
use super::device::{Device, DeviceError, Half, Memory, Pinned, Region};
use super::kernels::{Kernels, Kind, Matrix};
use crate::model::ModelError;
use crate::model::linear::values;
use crate::model::weights::Weights;

/// Bytes of a pinned buffer.
const CHUNK: usize = 64 << 20;
/// Numbers that one core converts at a time.
const PIECE: usize = 1 << 16;

/// Two pinned buffers that take turns.
pub struct Upload {
    device: Arc<dyn Device>,
    buffers: [Pinned; 2],
    turn: usize,
    /// Where quantised blocks wait to be put in the kernels' order.
    blocks: Option<Memory>,
}

/// Copies a few bytes and waits until they are there.
pub fn upload_now(device: &Arc<dyn Device>, to: Region, bytes: &[u8]) -> Result<(), DeviceError> {
    let to = to.part(0, bytes.len() as u64);
    // SAFETY: the region is as long, and `bytes` are borrowed until the copy is done.
    unsafe { device.upload(to.at, bytes)? };
    device.synchronise()
}

impl Upload {
    /// For tensors of at most `largest` bytes.
    pub fn new(device: &Arc<dyn Device>, largest: u64) -> Result<Self, DeviceError> {
        let bytes = (largest as usize).clamp(1, CHUNK);
        Ok(Self {
            device: device.clone(),
            buffers: [Pinned::new(device, bytes)?, Pinned::new(device, bytes)?],
            turn: 0,
            blocks: None,
        })
    }

    /// Brings one tensor to its place.
    pub fn fill(
        &mut self,
        fill: &Fill,
        weights: &Weights,
        kernels: &Kernels,
        to: Region,
    ) -> Result<(), ModelError> {
        let numbers = fill.rows * fill.columns * fill.stacked.unwrap_or(1);
        match fill.form {
            Form::Norm(offset) => {
                let mut norm = values(&weights.tensor(&fill.name, &[fill.rows])?)?;
                norm.iter_mut().for_each(|weight| *weight += offset);
                Ok(self.bytes(to, bytemuck::cast_slice(&norm))?)
            }
            Form::Bias => {
                let bias = values(&weights.tensor(&fill.name, &[fill.rows])?)?;
                self.numbers(
                    to,
                    kernels.half(),
                    bytemuck::cast_slice(&bias),
                    GgmlDType::F32,
                    weights,
                    fill,
                )
            }
            Form::Matrix(Kind::Half) => {
                if let Some(random) = weights.random(&fill.name) {
                    return Ok(kernels.random(
                        to,
                        numbers as u64,
                        random.seed,
                        random.scale,
                        random.offset,
                    )?);
                }
                let stacked = fill.stacked.map(|count| vec![count, fill.rows, fill.columns]);
                let shape = stacked.unwrap_or_else(|| vec![fill.rows, fill.columns]);
                let stored = weights.numbers(&fill.name, &shape)?;
                self.numbers(to, kernels.half(), &stored.bytes, stored.kind, weights, fill)
            }
            Form::Matrix(kind) => {
                let stored = weights.numbers(&fill.name, &[fill.rows, fill.columns])?;
                let length = stored.bytes.len() as u64;
                if self.blocks.as_ref().is_none_or(|blocks| blocks.bytes() < length) {
                    self.blocks = None;
                    self.blocks = Some(Memory::new(&self.device, length, "blocks on their way")?);
                }
                let waiting = match &self.blocks {
                    Some(blocks) => blocks.whole(),
                    None => to,
                };
                self.bytes(waiting, &stored.bytes)?;
                let matrix = Matrix {
                    kind,
                    at: to,
                    inputs: fill.columns,
                    outputs: fill.rows,
                };
                Ok(kernels.repack(matrix, waiting)?)
            }
        }
    }

    /// Waits until all is there.
    pub fn finish(self) -> Result<(), DeviceError> {
        self.device.synchronise()
    }

    fn bytes(&mut self, to: Region, bytes: &[u8]) -> Result<(), DeviceError> {
        let room = self.buffers[0].bytes().len();
        for (place, part) in bytes.chunks(room).enumerate() {
            let buffer = &mut self.buffers[self.turn].bytes_mut()[..part.len()];
            buffer
                .par_chunks_mut(2 * PIECE)
                .zip(part.par_chunks(2 * PIECE))
                .for_each(|(to, from)| to.copy_from_slice(from));
            self.send(to.part((place * room) as u64, part.len() as u64), part.len())?;
        }
        Ok(())
    }

    /// Numbers of some kind as half floats.
    fn numbers(
        &mut self,
        to: Region,
        half: Half,
        bytes: &[u8],
        kind: GgmlDType,
        weights: &Weights,
        fill: &Fill,
    ) -> Result<(), ModelError> {
        let same = matches!(
            (half, kind),
            (Half::F16, GgmlDType::F16) | (Half::Bf16, GgmlDType::BF16)
        );
        if same {
            return Ok(self.bytes(to, bytes)?);
        }
        let width = match kind {
            GgmlDType::F32 => 4,
            GgmlDType::F16 | GgmlDType::BF16 => 2,
            other => {
                let reason = format!("{} is stored as {other:?}, which is not read here", fill.name);
                return Err(weights.wrong(reason));
            }
        };
        let room = self.buffers[0].bytes().len() / 2;
        for (place, part) in bytes.chunks(room * width).enumerate() {
            let count = part.len() / width;
            let buffer = &mut self.buffers[self.turn].bytes_mut()[..2 * count];
            let fits = buffer
                .par_chunks_mut(2 * PIECE)
                .zip(part.par_chunks(width * PIECE))
                .map(|(to, from)| convert(to, from, half, kind))
                .all(|fits| fits);
            if !fits {
                let reason = format!(
                    "{} has numbers too large for f16; set dtype = \"bf16\"",
                    fill.name
                );
                return Err(weights.wrong(reason));
            }
            self.send(to.part((place * room * 2) as u64, 2 * count as u64), 2 * count)?;
        }
        Ok(())
    }

    /// Copies the buffer whose turn it is, once the other's copy is done.
    fn send(&mut self, to: Region, bytes: usize) -> Result<(), DeviceError> {
        self.device.synchronise()?;
        // SAFETY: the region is as long, and the buffer is written again only after the next `synchronise`.
        unsafe {
            self.device
                .upload(to.at, &self.buffers[self.turn].bytes()[..bytes])?
        };
        self.turn = 1 - self.turn;
        Ok(())
    }
}

/// False when a number has no place among the half floats.
fn convert(to: &mut [u8], from: &[u8], half: Half, kind: GgmlDType) -> bool {
    let number = |bytes: &[u8]| match kind {
        GgmlDType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        GgmlDType::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        _ => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    };
    let width = if kind == GgmlDType::F32 { 4 } else { 2 };
    let mut fits = true;
    for (to, from) in to.chunks_exact_mut(2).zip(from.chunks_exact(width)) {
        let value = number(from);
        let bytes = match half {
            Half::F16 => {
                let small = f16::from_f32(value);
                fits &= small.is_finite() || !value.is_finite();
                small.to_le_bytes()
            }
            Half::Bf16 => bf16::from_f32(value).to_le_bytes(),
        };
        to.copy_from_slice(&bytes);
    }
    fits
}
