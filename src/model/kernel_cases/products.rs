//! Products of a few rows with dense and quantised matrices.

use super::bench::{Argument as A, Bench, Half, Launch, floats};
use super::quantised::Packing;
use super::{Case, Chance, Size, compare};

/// A matrix on the device, and its values.
pub struct Weights {
    pub values: Vec<f64>,
    pub bytes: Vec<u8>,
}

impl Weights {
    /// `n` rows of `k` values.
    pub fn random(chance: &mut Chance, half: Half, packing: Option<Packing>, n: u32, k: u32) -> Self {
        match packing {
            None => {
                let values = half.round(chance.values((n * k) as usize, 1.0));
                let bytes = half.encode(&values);
                Self { values, bytes }
            }
            Some(packing) => {
                let blocks = packing.random_blocks(chance, n, k);
                Self {
                    values: packing.dequantise(&blocks),
                    bytes: packing.pack(&blocks, n, k),
                }
            }
        }
    }
}

/// The name of a product's kernel without its rows.
pub fn kernel(family: &str, half: Half, packing: Option<Packing>) -> String {
    match packing {
        None => format!("{family}_{}", half.name()),
        Some(packing) => format!("{family}_{}_{}", packing.name(), half.name()),
    }
}

pub fn dot(x: &[f64], w: &[f64]) -> f64 {
    x.iter().zip(w).map(|(x, w)| x * w).sum()
}

/// `x · wᵀ + bias`, and the first row alone: the same bits.
#[derive(Clone, Debug)]
pub struct ProductCase {
    pub half: Half,
    pub packing: Option<Packing>,
    /// The kernel's suffix.
    pub most: u32,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub x_extra: u32,
    pub out_extra: u32,
    pub biased: bool,
    pub wide_out: bool,
    pub seed: u64,
}

impl ProductCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let packing = if chance.one_in(2) {
            Some(chance.pick(&Packing::ALL))
        } else {
            None
        };
        let (most_n, most_k) = match size {
            Size::Small => (40, 900),
            Size::Large => (1500, 8000),
        };
        let most = chance.pick(&[8, 8, 16, 32, 64]);
        let k = chance.between(1..=most_k);
        Self {
            half: chance.half(),
            packing,
            most,
            m: chance.between(1..=most),
            n: chance.between(1..=most_n),
            k: match packing {
                Some(packing) => k.next_multiple_of(packing.columns()),
                None if chance.one_in(2) => k.next_multiple_of(8),
                None => k,
            },
            x_extra: chance.pick(&[0, 0, 8, 3]),
            out_extra: chance.pick(&[0, 5]),
            biased: chance.one_in(2),
            wide_out: chance.one_in(2),
            seed: chance.bits(),
        }
    }

    fn value_bytes(&self) -> usize {
        if self.wide_out { 4 } else { 2 }
    }

    fn launch(&self, bench: &mut dyn Bench, inputs: [u64; 3], m: u32, most: u32) -> Result<Vec<u8>, String> {
        let out_stride = self.n + self.out_extra;
        let bytes = self.value_bytes() * (m * out_stride) as usize;
        let out = bench.output(bytes)?;
        let [x, w, bias] = inputs;
        let arguments = [
            A::Pointer(out),
            A::Pointer(x),
            A::Pointer(w),
            A::Pointer(bias),
            A::U32(m),
            A::U32(self.n),
            A::U32(self.k),
            A::U32(self.k + self.x_extra),
            A::U32(out_stride),
            A::U32(u32::from(self.wide_out)),
        ];
        let name = format!("{}_m{most}", kernel("gemv", self.half, self.packing));
        bench.launch(&Launch::new(name, [self.n.div_ceil(16), 1, 1], 256), &arguments)?;
        bench.download(out, bytes)
    }
}

impl Case for ProductCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let half = self.half;
        let (n, k, stride) = (self.n as usize, self.k as usize, (self.k + self.x_extra) as usize);
        let w = Weights::random(&mut chance, half, self.packing, self.n, self.k);
        let x = half.round(chance.values(stride * self.m as usize, 1.0));
        let bias = half.round(chance.values(n, 1.0));
        let bias_at = if self.biased {
            bench.input(&half.encode(&bias))?
        } else {
            0
        };
        let inputs = [bench.input(&half.encode(&x))?, bench.input(&w.bytes)?, bias_at];
        let bytes = self.launch(bench, inputs, self.m, self.most)?;
        let alone = self.launch(bench, inputs, 1, 8)?;
        compare::equal("the first row alone", &alone, &bytes[..alone.len()])?;
        let got: Vec<f64> = if self.wide_out {
            floats(&bytes).iter().map(|v| f64::from(*v)).collect()
        } else {
            half.decode(&bytes)
        };
        let mut want = Vec::new();
        for x in x.chunks(stride) {
            for (w, bias) in w.values.chunks(k).zip(&bias) {
                want.push(dot(&x[..k], w) + if self.biased { *bias } else { 0.0 });
            }
            // Columns of another matrix stay as they were.
            want.extend(vec![f64::NAN; self.out_extra as usize]);
        }
        let tolerance = if self.wide_out { 1e-4 } else { half.tolerance() };
        // Every column of a row has a sum of its own size: rows are long enough to compare with.
        compare::rows("product", &got, &want, n + self.out_extra as usize, tolerance)
    }
}
