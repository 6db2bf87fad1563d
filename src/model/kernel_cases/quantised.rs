//! GGUF's blocks, their packed order on a GPU (`kernels/common/packed.cuh`), and the kernels between the two.

use half::f16;

use super::bench::{Argument as A, Bench, Half, Launch};
use super::{Case, Chance, Size, compare};
use crate::model::quantised::{Kind, dequantise_block};

/// Block formats that lie packed on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing(Kind);

impl Packing {
    pub const ALL: [Self; 3] = [Self(Kind::Q8_0), Self(Kind::Q4_K), Self(Kind::Q6_K)];

    /// As it stands in kernels' names.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Q8_0 => "q8_0",
            Kind::Q4_K => "q4_k",
            _ => "q6_k",
        }
    }

    /// Values of a block.
    pub fn columns(self) -> u32 {
        self.0.block_columns() as u32
    }

    /// Bytes of a block but for what lies in a plane of its own.
    fn main_bytes(self) -> usize {
        match self.0 {
            Kind::Q8_0 => 32,
            Kind::Q4_K => 144,
            _ => 208,
        }
    }

    /// Where GGUF's byte `at` of a block goes in the packed matrix. `block` of `blocks` in its row, `index` of `all`.
    fn place(self, at: usize, block: usize, blocks: usize, index: usize, all: usize) -> usize {
        /// The middle two of four change places.
        fn swapped(i: usize) -> usize {
            [0, 2, 1, 3][i % 4] + i / 4 * 4
        }
        let scales = all * self.main_bytes() + 2 * index;
        let base = index * self.main_bytes();
        match (self.0, at) {
            (Kind::Q8_0, 0..2) => scales + at,
            (Kind::Q8_0, _) => {
                let i = at - 2;
                if block + 1 == blocks && block.is_multiple_of(2) {
                    base + i
                } else {
                    (index - block % 2) * 32 + i / 8 * 16 + block % 2 * 8 + i % 8
                }
            }
            (Kind::Q4_K, 0..16) => base + at,
            (Kind::Q4_K, _) => {
                let (pair, i) = ((at - 16) / 32, (at - 16) % 32);
                base + 16 + pair / 2 * 64 + i / 8 * 16 + pair % 2 * 8 + swapped(i % 8)
            }
            (_, 0..128) => {
                let (half, group, i) = (at / 64, at % 64 / 16, at % 16);
                base + half * 64 + i / 4 * 16 + group * 4 + swapped(i % 4)
            }
            (_, 128..192) => {
                let (half, group, i) = ((at - 128) / 32, at % 32 / 16, at % 16);
                base + 128 + i / 4 * 16 + half * 8 + group * 4 + swapped(i % 4)
            }
            (_, 192..208) => base + at,
            _ => scales + at - 208,
        }
    }

    /// The packed order of the blocks of `n` rows of `k` values.
    pub fn pack(self, blocks: &[u8], n: u32, k: u32) -> Vec<u8> {
        let (a_row, all) = (
            (k / self.columns()) as usize,
            n as usize * (k / self.columns()) as usize,
        );
        let mut packed = vec![0; blocks.len()];
        for (index, block) in blocks.chunks(self.0.block_bytes()).enumerate() {
            for (at, &byte) in block.iter().enumerate() {
                packed[self.place(at, index % a_row, a_row, index, all)] = byte;
            }
        }
        packed
    }

    /// The values of whole blocks, as GGML computes them.
    pub fn dequantise(self, blocks: &[u8]) -> Vec<f64> {
        let mut values = vec![0.0; self.0.block_columns()];
        blocks
            .chunks(self.0.block_bytes())
            .flat_map(|block| {
                dequantise_block(self.0, block, &mut values);
                values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Blocks of any bytes with scales as models have them.
    pub fn random_blocks(self, chance: &mut Chance, n: u32, k: u32) -> Vec<u8> {
        let count = n as usize * (k / self.columns()) as usize;
        let mut blocks = Vec::with_capacity(count * self.0.block_bytes());
        for _ in 0..count {
            let begin = blocks.len();
            blocks.extend((0..self.0.block_bytes()).map(|_| chance.bits() as u8));
            let (places, size): (&[usize], f64) = match self.0 {
                Kind::Q8_0 => (&[0], 0.01),
                Kind::Q4_K => (&[0, 2], 0.002),
                _ => (&[208], 0.0005),
            };
            for place in places {
                let scale = f16::from_f64(chance.values(1, size)[0]);
                blocks[begin + place..][..2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        blocks
    }
}

/// From GGUF's order to the packed one, and from that to values.
#[derive(Clone, Debug)]
pub struct RepackCase {
    pub packing: Packing,
    pub half: Half,
    pub n: u32,
    pub k: u32,
    pub seed: u64,
}

impl RepackCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let packing = chance.pick(&Packing::ALL);
        let (most_rows, most_columns) = match size {
            Size::Small => (9, 1200),
            Size::Large => (600, 16000),
        };
        Self {
            packing,
            half: chance.half(),
            n: chance.between(1..=most_rows),
            k: chance
                .between(1..=most_columns)
                .next_multiple_of(packing.columns()),
            seed: chance.bits(),
        }
    }
}

impl Case for RepackCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let (packing, half) = (self.packing, self.half);
        let blocks = packing.random_blocks(&mut chance, self.n, self.k);
        let packed = bench.output(blocks.len())?;
        let source = bench.input(&blocks)?;
        let shape = [A::U64(u64::from(self.n)), A::U32(self.k)];
        let count = self.n as usize * self.k as usize;
        bench.launch(
            &Launch::new(
                format!("repack_{}", packing.name()),
                [count.div_ceil(8192) as u32, 1, 1],
                256,
            ),
            &[A::Pointer(packed), A::Pointer(source), shape[0], shape[1]],
        )?;
        let got = bench.download(packed, blocks.len())?;
        compare::equal("packed bytes", &got, &packing.pack(&blocks, self.n, self.k))?;
        let out = bench.output(2 * count)?;
        bench.launch(
            &Launch::new(
                format!("dequantise_{}_{}", packing.name(), half.name()),
                [count.div_ceil(2048) as u32, 1, 1],
                256,
            ),
            &[A::Pointer(out), A::Pointer(packed), shape[0], shape[1]],
        )?;
        let got = bench.download_half(half, out, count)?;
        let want = packing.dequantise(&blocks);
        compare::rows("dequantised", &got, &want, self.k as usize, half.tolerance())
    }
}
