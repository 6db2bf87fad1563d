//! Matrices that a step multiplies with: dense f32, or the quantised blocks of a GGUF file.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{CpuStorage, D, DType, Device, Module, Storage, Tensor};

use super::ModelError;
use super::dense::DenseMatrix;
use super::gguf::Stored as Blocks;
use super::quantised::{self, Kind, PackedMatrix};
use super::weights::{Stored, Weights};

/// One or more matrices of the same inputs whose outputs stand side by side.
pub struct Linear {
    parts: Vec<Part>,
    /// `[outputs]`
    bias: Option<Tensor>,
    inputs: usize,
    outputs: usize,
}

enum Part {
    Dense(Arc<DenseMatrix>),
    Packed(Arc<PackedMatrix>),
    /// `[outputs, inputs]` in f32, on a CPU our kernels are not written for.
    Tensor(Tensor),
    /// A kind our kernels lack, or a CPU they are not written for.
    Candle {
        matrix: QMatMul,
        bytes: usize,
    },
}

impl Linear {
    /// The matrices called `names` (without their `.weight`), one above the other: `(name, outputs)` each. With
    /// `bias` every one must have a `.bias` too.
    pub fn load(
        weights: &Weights,
        names: &[(String, usize)],
        inputs: usize,
        bias: bool,
    ) -> Result<Self, ModelError> {
        let stored = names
            .iter()
            .map(|(name, outputs)| weights.matrix(&format!("{name}.weight"), *outputs, inputs))
            .collect::<Result<Vec<_>, _>>()?;
        let bias = if bias {
            let parts = names
                .iter()
                .map(|(name, outputs)| weights.tensor(&format!("{name}.bias"), &[*outputs]))
                .collect::<Result<Vec<_>, _>>()?;
            Some(Tensor::cat(&parts, 0)?)
        } else {
            None
        };
        let mut linear = Self::of(stored, inputs)?;
        linear.bias = bias;
        Ok(linear)
    }

    /// Matrices of `inputs` columns each.
    pub fn of(stored: Vec<Stored>, inputs: usize) -> Result<Self, ModelError> {
        let outputs = stored.iter().map(Stored::rows).sum();
        let mut parts = Vec::new();
        let mut dense = Vec::new();
        for stored in stored {
            match stored {
                Stored::Dense(tensor) => dense.push(tensor),
                Stored::Blocks(blocks) => {
                    flush(&mut dense, &mut parts)?;
                    parts.push(Part::of(blocks)?);
                }
            }
        }
        flush(&mut dense, &mut parts)?;
        Ok(Self {
            parts,
            bias: None,
            inputs,
            outputs,
        })
    }

    /// The head that shares its matrix with `embedding`.
    pub fn tied(embedding: &Embedding) -> Result<Self, ModelError> {
        let (part, outputs, inputs) = match embedding {
            Embedding::Tensor(table) => {
                let (rows, columns) = table.dims2()?;
                (Part::Tensor(table.clone()), rows, columns)
            }
            Embedding::Dense(table) => (Part::Dense(table.clone()), table.rows(), table.columns()),
            Embedding::Packed(table) => (Part::Packed(table.clone()), table.rows(), table.columns()),
        };
        Ok(Self {
            parts: vec![part],
            bias: None,
            inputs,
            outputs,
        })
    }

    /// `x` is `[tokens, inputs]`; returns `[tokens, outputs]`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if let Some(out) = self.by_our_kernels(x)? {
            return Tensor::from_vec(out, (x.dim(0)?, self.outputs), x.device());
        }
        let out = match self.parts.as_slice() {
            [one] => one.forward(x)?,
            parts => {
                let pieces = parts
                    .iter()
                    .map(|part| part.forward(x))
                    .collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&pieces, D::Minus1)?
            }
        };
        match &self.bias {
            Some(bias) => out.broadcast_add(bias),
            None => Ok(out),
        }
    }

    /// The same as plain numbers, for who goes on without candle.
    pub fn forward_values(&self, x: &Tensor) -> candle_core::Result<Vec<f32>> {
        match self.by_our_kernels(x)? {
            Some(out) => Ok(out),
            None => values(&self.forward(x)?),
        }
    }

    /// `None` where candle must compute.
    fn by_our_kernels(&self, x: &Tensor) -> candle_core::Result<Option<Vec<f32>>> {
        let tokens = x.dim(0)?;
        let mut out = vec![0.0; tokens * self.outputs];
        if let [Part::Dense(matrix)] = self.parts.as_slice() {
            with_values(x, |x| matrix.multiply(x, &mut out))?;
        } else if let Some(matrices) = packed(&self.parts) {
            with_values(x, |x| quantised::multiply_all(&matrices, x, tokens, &mut out))?;
        } else {
            return Ok(None);
        }
        if let Some(bias) = &self.bias {
            with_values(bias, |bias| {
                for row in out.chunks_exact_mut(self.outputs) {
                    row.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            })?;
        }
        Ok(Some(out))
    }

    pub fn parameters(&self) -> usize {
        self.inputs * self.outputs + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }

    pub fn bytes(&self) -> usize {
        let bias = self
            .bias
            .as_ref()
            .map_or(0, |b| b.elem_count() * size_of::<f32>());
        let parts = self.parts.iter().map(|part| match part {
            Part::Tensor(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Part::Dense(matrix) => matrix.bytes(),
            Part::Packed(matrix) => matrix.bytes(),
            Part::Candle { bytes, .. } => *bytes,
        });
        parts.sum::<usize>() + bias
    }
}

impl Part {
    fn of(blocks: Blocks) -> Result<Self, ModelError> {
        match pack(&blocks) {
            Some(matrix) => Ok(Self::Packed(Arc::new(matrix))),
            None => {
                let bytes = blocks.blocks.len();
                let matrix = QMatMul::from_qtensor(quantised_tensor(blocks)?)?;
                Ok(Self::Candle { matrix, bytes })
            }
        }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Tensor(weight) => x.matmul(&weight.t()?),
            Self::Dense(matrix) => {
                let tokens = x.dim(0)?;
                let mut out = vec![0.0; tokens * matrix.rows()];
                with_values(x, |x| matrix.multiply(x, &mut out))?;
                Tensor::from_vec(out, (tokens, matrix.rows()), x.device())
            }
            Self::Candle { matrix, .. } => matrix.forward(x),
            Self::Packed(matrix) => {
                let tokens = x.dim(0)?;
                let mut out = vec![0.0; tokens * matrix.rows()];
                with_values(x, |x| quantised::multiply_all(&[matrix], x, tokens, &mut out))?;
                Tensor::from_vec(out, (tokens, matrix.rows()), x.device())
            }
        }
    }
}

/// The table of token embeddings.
pub enum Embedding {
    /// `[vocabulary, hidden]`
    Tensor(Tensor),
    Dense(Arc<DenseMatrix>),
    Packed(Arc<PackedMatrix>),
}

impl Embedding {
    pub fn of(stored: Stored) -> Result<Self, ModelError> {
        match stored {
            Stored::Dense(table) => Ok(match dense(&table)? {
                Some(matrix) => Self::Dense(Arc::new(matrix)),
                None => Self::Tensor(table),
            }),
            Stored::Blocks(blocks) => match pack(&blocks) {
                Some(matrix) => Ok(Self::Packed(Arc::new(matrix))),
                None => Ok(Self::Tensor(quantised_tensor(blocks)?.dequantize(&Device::Cpu)?)),
            },
        }
    }

    /// `[ids, hidden]` of tokens that are all in the vocabulary.
    pub fn rows(&self, ids: &[u32], device: &Device) -> candle_core::Result<Tensor> {
        match self {
            Self::Tensor(table) => table.embedding(&Tensor::new(ids, device)?),
            Self::Dense(table) => rows(ids, table.columns(), device, |id, out| table.row(id, out)),
            Self::Packed(table) => rows(ids, table.columns(), device, |id, out| table.row(id, out)),
        }
    }

    pub fn parameters(&self) -> usize {
        match self {
            Self::Tensor(table) => table.elem_count(),
            Self::Dense(table) => table.rows() * table.columns(),
            Self::Packed(table) => table.rows() * table.columns(),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Tensor(table) => table.elem_count() * size_of::<f32>(),
            Self::Dense(table) => table.bytes(),
            Self::Packed(table) => table.bytes(),
        }
    }
}

fn rows(
    ids: &[u32],
    columns: usize,
    device: &Device,
    row: impl Fn(usize, &mut [f32]),
) -> candle_core::Result<Tensor> {
    let mut out = vec![0.0; ids.len() * columns];
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(columns)) {
        row(id as usize, out);
    }
    Tensor::from_vec(out, (ids.len(), columns), device)
}

/// Makes one part of the dense matrices gathered so far.
fn flush(gathered: &mut Vec<Tensor>, parts: &mut Vec<Part>) -> Result<(), ModelError> {
    let all = match gathered.len() {
        0 => return Ok(()),
        1 => gathered.remove(0),
        _ => Tensor::cat(&std::mem::take(gathered), 0)?,
    };
    parts.push(match dense(&all)? {
        Some(matrix) => Part::Dense(Arc::new(matrix)),
        None => Part::Tensor(all),
    });
    Ok(())
}

fn dense(weights: &Tensor) -> candle_core::Result<Option<DenseMatrix>> {
    let (rows, columns) = weights.dims2()?;
    with_values(weights, |weights| DenseMatrix::pack(weights, rows, columns))
}

fn pack(blocks: &Blocks) -> Option<PackedMatrix> {
    let kind = match blocks.kind {
        GgmlDType::Q4_0 => Kind::Q4_0,
        GgmlDType::Q4_1 => Kind::Q4_1,
        GgmlDType::Q5_0 => Kind::Q5_0,
        GgmlDType::Q5_1 => Kind::Q5_1,
        GgmlDType::Q8_0 => Kind::Q8_0,
        GgmlDType::Q4K => Kind::Q4_K,
        GgmlDType::Q5K => Kind::Q5_K,
        GgmlDType::Q6K => Kind::Q6_K,
        _ => return None,
    };
    PackedMatrix::pack(kind, &blocks.blocks, blocks.rows, blocks.columns)
}

/// All parts as packed matrices, if they are.
fn packed(parts: &[Part]) -> Option<Vec<&PackedMatrix>> {
    parts
        .iter()
        .map(|part| match part {
            Part::Packed(matrix) => Some(matrix.as_ref()),
            _ => None,
        })
        .collect()
}

fn quantised_tensor(blocks: Blocks) -> Result<QTensor, ModelError> {
    let storage = QStorage::from_data(blocks.blocks.into(), &Device::Cpu, blocks.kind)?;
    Ok(QTensor::new(storage, (blocks.rows, blocks.columns))?)
}

/// A contiguous f32 tensor's values, copied out.
pub fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    with_values(tensor, <[f32]>::to_vec)
}

/// Lends a contiguous f32 CPU tensor's values without copying them.
pub fn with_values<T>(tensor: &Tensor, use_values: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
    debug_assert_eq!(tensor.dtype(), DType::F32);
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(all)), Some((from, to))) => Ok(use_values(&all[from..to])),
        _ => Ok(use_values(&tensor.flatten_all()?.to_vec1::<f32>()?)),
    }
}
