//! The formats once more, value by value from their definition, and products in `f64`.

use half::f16;

use super::{ActivationKind, Kind};

/// A weight as `scale · quant + minimum`.
pub(super) struct Weight {
    pub(super) scale: f32,
    pub(super) quant: i32,
    pub(super) minimum: f32,
}

impl Weight {
    pub(super) fn value(&self) -> f32 {
        self.scale * self.quant as f32 + self.minimum
    }
}

/// Where a block keeps its `f16` numbers.
pub(super) fn halves(kind: Kind) -> &'static [usize] {
    match kind {
        Kind::Q8_0 | Kind::Q4_0 | Kind::Q5_0 => &[0],
        Kind::Q4_1 | Kind::Q5_1 | Kind::Q4_K | Kind::Q5_K => &[0, 2],
        Kind::Q6_K => &[208],
    }
}

/// Weight `k` of a GGML block.
pub(super) fn weight(kind: Kind, block: &[u8], k: usize) -> Weight {
    let byte = |at: usize| i32::from(block[at]);
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let legacy_nibble = |at: usize| {
        if k < 16 {
            byte(at + k) % 16
        } else {
            byte(at + k - 16) / 16
        }
    };
    let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
    let plain = |scale: f32, quant: i32| Weight {
        scale,
        quant,
        minimum: 0.0,
    };
    match kind {
        Kind::Q8_0 => plain(half(0), byte(2 + k) - if byte(2 + k) > 127 { 256 } else { 0 }),
        Kind::Q4_0 => plain(half(0), legacy_nibble(2) - 8),
        Kind::Q5_0 => plain(half(0), legacy_nibble(6) + 16 * (word(2) >> k & 1) as i32 - 16),
        Kind::Q4_1 => Weight {
            scale: half(0),
            quant: legacy_nibble(4),
            minimum: half(2),
        },
        Kind::Q5_1 => Weight {
            scale: half(0),
            quant: legacy_nibble(8) + 16 * (word(4) >> k & 1) as i32,
            minimum: half(2),
        },
        Kind::Q4_K | Kind::Q5_K => {
            let j = k / 32;
            let (scale, minimum) = if j < 4 {
                (byte(4 + j) % 64, byte(8 + j) % 64)
            } else {
                (
                    byte(8 + j) % 16 + 16 * (byte(j) / 64),
                    byte(8 + j) / 16 + 16 * (byte(4 + j) / 64),
                )
            };
            let quants = if kind == Kind::Q4_K { 16 } else { 48 };
            let pair = byte(quants + k / 64 * 32 + k % 32);
            let mut quant = if k % 64 < 32 { pair % 16 } else { pair / 16 };
            if kind == Kind::Q5_K && byte(16 + k % 32) & (1 << j) != 0 {
                quant += 16;
            }
            Weight {
                scale: half(0) * scale as f32,
                quant,
                minimum: -(half(2) * minimum as f32),
            }
        }
        Kind::Q6_K => {
            let (n, l) = (k / 128, k % 32);
            let (low, top) = match k % 128 / 32 {
                0 => (byte(n * 64 + l) % 16, byte(128 + n * 32 + l) % 4),
                1 => (byte(n * 64 + 32 + l) % 16, byte(128 + n * 32 + l) / 4 % 4),
                2 => (byte(n * 64 + l) / 16, byte(128 + n * 32 + l) / 16 % 4),
                _ => (byte(n * 64 + 32 + l) / 16, byte(128 + n * 32 + l) / 64),
            };
            let own = byte(192 + k / 16) - if byte(192 + k / 16) > 127 { 256 } else { 0 };
            plain(half(208) * own as f32, low + 16 * top - 32)
        }
    }
}

/// A block of activations: its scale, its quants, and what a weight's minimum meets for each 32 of them.
pub(super) struct Quantised {
    pub(super) scale: f64,
    pub(super) quants: Vec<i32>,
    pub(super) sums: Vec<f64>,
}

pub(super) fn activations(kind: ActivationKind, x: &[f32]) -> Vec<Quantised> {
    let half = |value: f32| f64::from(f16::from_f32(value).to_f32());
    x.chunks(kind.block())
        .map(|block| {
            let extreme = block
                .iter()
                .fold(0.0_f32, |a, &b| if b.abs() > a.abs() { b } else { a });
            let factor = match kind {
                _ if extreme == 0.0 => 0.0,
                ActivationKind::Q8_K => -127.0 / extreme,
                ActivationKind::Q8_0 | ActivationKind::Q8_1 => 127.0 / extreme.abs(),
            };
            let quants: Vec<i32> = block
                .iter()
                .map(|v| (v * factor).round_ties_even() as i32)
                .collect();
            let plain = extreme.abs() / 127.0;
            let scale = match kind {
                ActivationKind::Q8_K if extreme == 0.0 => 0.0,
                ActivationKind::Q8_K => f64::from(1.0 / factor),
                ActivationKind::Q8_0 | ActivationKind::Q8_1 => half(plain),
            };
            let sums = quants
                .chunks(32)
                .map(|part| {
                    let sum = part.iter().sum::<i32>();
                    match kind {
                        ActivationKind::Q8_1 => half(plain * sum as f32),
                        ActivationKind::Q8_0 | ActivationKind::Q8_K => scale * f64::from(sum),
                    }
                })
                .collect();
            Quantised { scale, quants, sums }
        })
        .collect()
}

/// The product of a row of GGML blocks with quantised activations, and the sum of its terms' magnitudes.
pub(super) fn dot(kind: Kind, row: &[u8], x: &[Quantised]) -> (f64, f64) {
    let (mut sum, mut magnitude) = (0.0, 0.0);
    for (block, x) in row.chunks(kind.block_bytes()).zip(x) {
        for (k, &quant) in x.quants.iter().enumerate() {
            let weight = weight(kind, block, k);
            let term = f64::from(weight.scale) * f64::from(weight.quant) * x.scale * f64::from(quant);
            let lift = f64::from(weight.minimum) * x.sums[k / 32] / 32.0;
            sum += term + lift;
            magnitude += term.abs() + lift.abs();
        }
    }
    (sum, magnitude)
}
