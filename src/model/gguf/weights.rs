//! Weights out of the file: whole, as one expert's share, or as the rows of one projection.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::header::TensorInfo;

/// A run of whole rows of one tensor in the file.
#[derive(Debug, PartialEq)]
pub struct Rows<'a> {
    pub tensor: &'a TensorInfo,
    pub first: usize,
    pub count: usize,
    /// As the caller sees it; its numbers are those of `count` rows.
    pub shape: Vec<usize>,
}

/// A matrix as the file stores it, rows one after another in whole blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub kind: GgmlDType,
    pub blocks: Vec<u8>,
    pub rows: usize,
    pub columns: usize,
}

/// Numbers in a row: the innermost dimension, or one of a vector, whose rows are its numbers.
fn row_length(tensor: &TensorInfo) -> usize {
    match tensor.shape.as_slice() {
        [_] if tensor.kind.block_size() == 1 => 1,
        [.., columns] => *columns,
        [] => unreachable!("the header refuses tensors without dimensions"),
    }
}

impl<'a> Rows<'a> {
    pub fn whole(tensor: &'a TensorInfo) -> Self {
        let numbers: usize = tensor.shape.iter().product();
        Self {
            tensor,
            first: 0,
            count: numbers / row_length(tensor),
            shape: tensor.shape.clone(),
        }
    }

    /// Matrix `index` of a stack; `None` for a tensor that is no stack or has no such matrix.
    pub fn expert(tensor: &'a TensorInfo, index: usize) -> Option<Self> {
        let [experts, rows, columns] = tensor.shape[..] else {
            return None;
        };
        (index < experts).then(|| Self {
            tensor,
            first: index * rows,
            count: rows,
            shape: vec![rows, columns],
        })
    }

    /// Rows `first` to `first + count` of a matrix, or those numbers of a vector.
    pub fn slice(tensor: &'a TensorInfo, first: usize, count: usize) -> Option<Self> {
        let whole = Self::whole(tensor);
        let fits = first.checked_add(count).is_some_and(|end| end <= whole.count);
        let shape = match tensor.shape[..] {
            [_] => vec![count],
            [_, columns] => vec![count, columns],
            _ => return None,
        };
        fits.then_some(Self {
            first,
            count,
            shape,
            ..whole
        })
    }

    fn row_bytes(&self) -> usize {
        row_length(self.tensor) / self.tensor.kind.block_size() * self.tensor.kind.type_size()
    }

    /// The rows' blocks. Reads no more than the tensor has.
    pub fn read(&self, file: &File) -> Result<Vec<u8>, std::io::Error> {
        let row = self.row_bytes();
        let mut bytes = vec![0; self.count * row];
        file.read_exact_at(&mut bytes, self.tensor.offset + (self.first * row) as u64)?;
        Ok(bytes)
    }

    /// Like `read`, with each head's interleaved rows put back: first its even rows, then its odd ones.
    pub fn read_heads(&self, file: &File, heads: usize) -> Result<Vec<u8>, std::io::Error> {
        Ok(deinterleave(&self.read(file)?, self.row_bytes(), heads))
    }
}

/// Undoes the converter's reordering. Within each head of `2n` rows the file has rows 0, n, 1, n + 1, … of the
/// original; they go back to their places. Whole rows move, so the blocks stay as they are.
///
/// `rows` must hold a whole, even number of rows for each head.
pub fn deinterleave(rows: &[u8], row_bytes: usize, heads: usize) -> Vec<u8> {
    let mut back = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(rows.len() / heads) {
        for half in 0..2 {
            for row in head.chunks_exact(row_bytes).skip(half).step_by(2) {
                back.extend_from_slice(row);
            }
        }
    }
    back
}

/// Numbers out of blocks.
pub fn dequantise(kind: GgmlDType, blocks: &[u8], numbers: usize) -> Result<Vec<f32>, candle_core::Error> {
    match kind {
        GgmlDType::F32 => {
            let (words, _) = blocks.as_chunks::<4>();
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        }
        GgmlDType::F16 => {
            let (words, _) = blocks.as_chunks::<2>();
            Ok(words
                .iter()
                .map(|word| half::f16::from_le_bytes(*word).to_f32())
                .collect())
        }
        GgmlDType::BF16 => {
            let (words, _) = blocks.as_chunks::<2>();
            Ok(words
                .iter()
                .map(|word| half::bf16::from_le_bytes(*word).to_f32())
                .collect())
        }
        _ => {
            let aligned = Aligned::copy(blocks);
            let storage = QStorage::from_data(Cow::Borrowed(aligned.bytes()), &Device::Cpu, kind)?;
            QTensor::new(storage, numbers)?
                .dequantize(&Device::Cpu)?
                .to_vec1()
        }
    }
}

/// Bytes that begin where candle's blocks may: it panics on others, and a `Vec<u8>` promises nothing.
struct Aligned {
    padded: Vec<u8>,
    start: usize,
}

impl Aligned {
    const BOUNDARY: usize = 8;

    fn copy(bytes: &[u8]) -> Self {
        let mut padded = vec![0; bytes.len() + Self::BOUNDARY];
        let start = padded.as_ptr().align_offset(Self::BOUNDARY).min(Self::BOUNDARY);
        padded[start..start + bytes.len()].copy_from_slice(bytes);
        Self { padded, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.padded[self.start..self.padded.len() - Self::BOUNDARY + self.start]
    }
}
