//! Norm and turn of queries and keys, and the write to pages.

use super::bench::{Argument as A, Bench, Half, Launch};
use super::{Case, Chance, Size, compare};
use crate::model::PAGE_TOKENS;

#[derive(Clone, Debug)]
pub struct RopeCase {
    pub half: Half,
    pub rows: u32,
    pub q_heads: u32,
    pub kv_heads: u32,
    pub dim: u32,
    pub rotary_dim: u32,
    pub interleaved: bool,
    pub normed: bool,
    pub seed: u64,
}

impl RopeCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let kv_heads = chance.between(1..=4);
        let dim = chance.pick(&[6, 12, 20, 64, 80, 96, 128, 256]);
        Self {
            half: chance.half(),
            rows: match size {
                Size::Small => chance.between(1..=6),
                Size::Large => chance.between(1..=500),
            },
            q_heads: kv_heads * chance.between(1..=5),
            kv_heads,
            dim,
            rotary_dim: match chance.between(0..=3) {
                0 => 0,
                1 => chance.between(1..=dim / 2) * 2,
                _ => dim,
            },
            interleaved: chance.one_in(3),
            normed: chance.one_in(2),
            seed: chance.bits(),
        }
    }

    /// One head after its norm and turn, in f64.
    fn turned(&self, head: &[f64], weight: Option<&[f32]>, eps: f32, cos: &[f32], sin: &[f32]) -> Vec<f64> {
        let mut values = head.to_vec();
        if let Some(weight) = weight {
            let mean_square = head.iter().map(|v| v * v).sum::<f64>() / head.len() as f64;
            let inverse = 1.0 / (mean_square + f64::from(eps)).sqrt();
            for (value, weight) in values.iter_mut().zip(weight) {
                *value *= inverse * f64::from(*weight);
            }
        }
        let half = self.rotary_dim as usize / 2;
        for pair in 0..half {
            let (a, b) = if self.interleaved {
                (2 * pair, 2 * pair + 1)
            } else {
                (pair, pair + half)
            };
            let (cos, sin) = (f64::from(cos[pair]), f64::from(sin[pair]));
            (values[a], values[b]) = (
                values[a] * cos - values[b] * sin,
                values[b] * cos + values[a] * sin,
            );
        }
        values
    }
}

impl Case for RopeCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        const EPS: f32 = 1e-6;
        const PAGES: usize = 12;
        let mut chance = Chance::new(self.seed);
        let (half, rows, dim) = (self.half, self.rows as usize, self.dim as usize);
        let (q_heads, kv_heads) = (self.q_heads as usize, self.kv_heads as usize);
        let width = (q_heads + 2 * kv_heads) * dim;
        let qkv = half.round(chance.values(rows * width, 1.0));
        let pairs = self.rotary_dim as usize / 2;
        let positions: Vec<u32> = (0..rows).map(|_| chance.between(0..=40)).collect();
        let cos = chance.floats(41 * pairs, -1.0, 1.0);
        let sin = chance.floats(41 * pairs, -1.0, 1.0);
        let free = chance.shuffled((PAGES * PAGE_TOKENS) as u32);
        let slots: Vec<u32> = (0..rows)
            .map(|row| match free.get(row) {
                Some(&slot) if !chance.one_in(6) => slot,
                _ => u32::MAX,
            })
            .collect();
        let (q_norm, k_norm) = (chance.floats(dim, 0.5, 1.5), chance.floats(dim, 0.5, 1.5));
        let pages = PAGES * kv_heads * PAGE_TOKENS * dim;
        let place = bench.changing(&half.encode(&qkv))?;
        let (keys, values) = (bench.output(2 * pages)?, bench.output(2 * pages)?);
        let norm_at = |bench: &mut dyn Bench, weight: &[f32]| {
            if self.normed {
                bench.input_f32(weight)
            } else {
                Ok(0)
            }
        };
        let arguments = [
            A::Pointer(place),
            A::Pointer(keys),
            A::Pointer(values),
            A::Pointer(bench.input_f32(&cos)?),
            A::Pointer(bench.input_f32(&sin)?),
            A::Pointer(bench.input_u32(&positions)?),
            A::Pointer(bench.input_u32(&slots)?),
            A::Pointer(norm_at(bench, &q_norm)?),
            A::Pointer(norm_at(bench, &k_norm)?),
            A::U32(self.q_heads),
            A::U32(self.kv_heads),
            A::U32(self.dim),
            A::U32(self.rotary_dim),
            A::U32(u32::from(self.interleaved)),
            A::F32(EPS),
        ];
        let grid = [self.rows, (self.q_heads + 2 * self.kv_heads).div_ceil(4), 1];
        bench.launch(
            &Launch::new(format!("rope_kv_{}", half.name()), grid, 128),
            &arguments,
        )?;

        let mut want = qkv.clone();
        let (mut want_keys, mut want_values) = (vec![f64::NAN; pages], vec![f64::NAN; pages]);
        for (row, &slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != u32::MAX) {
            let table = positions[row] as usize * pairs;
            let (cos, sin) = (&cos[table..][..pairs], &sin[table..][..pairs]);
            let (page, offset) = (slot as usize / PAGE_TOKENS, slot as usize % PAGE_TOKENS);
            for head in 0..q_heads + 2 * kv_heads {
                let from = &qkv[row * width + head * dim..][..dim];
                let to = |kv: usize| ((page * kv_heads + kv) * PAGE_TOKENS + offset) * dim;
                let weight = |norm| self.normed.then_some(norm);
                if head < q_heads {
                    let turned = self.turned(from, weight(q_norm.as_slice()), EPS, cos, sin);
                    want[row * width + head * dim..][..dim].copy_from_slice(&turned);
                } else if head < q_heads + kv_heads {
                    let turned = self.turned(from, weight(k_norm.as_slice()), EPS, cos, sin);
                    want_keys[to(head - q_heads)..][..dim].copy_from_slice(&turned);
                } else {
                    want_values[to(head - q_heads - kv_heads)..][..dim].copy_from_slice(from);
                }
            }
        }
        let mut worst: f64 = 0.0;
        for (what, at, want) in [
            ("qkv", place, &want),
            ("keys", keys, &want_keys),
            ("values", values, &want_values),
        ] {
            let got = bench.download_half(half, at, want.len())?;
            worst = worst.max(compare::rows(what, &got, want, dim, half.tolerance())?);
        }
        Ok(worst)
    }
}
