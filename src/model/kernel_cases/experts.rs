//! A mixture of experts from router logits to the weighted sum.

use super::bench::{Argument as A, Bench, Half, Launch};
use super::products::{self, Weights, dot};
use super::quantised::Packing;
use super::{Case, Chance, Size, compare};

#[derive(Clone, Debug)]
pub struct ExpertsCase {
    pub half: Half,
    pub packing: Option<Packing>,
    /// Logits are f32; else `half`.
    pub wide_logits: bool,
    pub tokens: u32,
    pub count: u32,
    pub used: u32,
    pub renormalise: bool,
    /// Logits have few values, so that many are equal.
    pub ties: bool,
    pub n: u32,
    pub k: u32,
    /// The product's suffix.
    pub most: u32,
    pub seed: u64,
}

impl ExpertsCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let packing = if chance.one_in(2) {
            Some(chance.pick(&Packing::ALL))
        } else {
            None
        };
        let (tokens, count, n, k) = match size {
            Size::Small => (12, 20, 40, 260),
            Size::Large => (300, 256, 100, 600),
        };
        let count = chance.between(1..=count);
        let k = chance.between(1..=k);
        Self {
            half: chance.half(),
            packing,
            wide_logits: chance.one_in(2),
            tokens: chance.between(1..=tokens),
            count,
            used: chance.between(1..=count.min(8)),
            renormalise: chance.one_in(2),
            ties: chance.one_in(3),
            n: chance.between(1..=n),
            k: packing.map_or(k, |p| k.next_multiple_of(p.columns())),
            most: chance.pick(&[8, 32]),
            seed: chance.bits(),
        }
    }

    fn logits(&self, chance: &mut Chance) -> Vec<f64> {
        let count = (self.tokens * self.count) as usize;
        let logits = chance.values(count, 4.0);
        let logits: Vec<f64> = if self.ties {
            logits.iter().map(|l| l.round()).collect()
        } else {
            logits
        };
        if self.wide_logits {
            logits.iter().map(|l| f64::from(*l as f32)).collect()
        } else {
            self.half.round(logits)
        }
    }

    /// A token's shares, which of its experts are used, and with what weights.
    fn routed(&self, logits: &[f64]) -> (Vec<u32>, Vec<f64>) {
        let peak = logits.iter().copied().fold(f64::MIN, f64::max);
        let shares: Vec<f64> = logits.iter().map(|l| (l - peak).exp()).collect();
        let sum: f64 = shares.iter().sum();
        let mut order: Vec<u32> = (0..self.count).collect();
        order.sort_by(|a, b| shares[*b as usize].total_cmp(&shares[*a as usize]));
        order.truncate(self.used as usize);
        let own = |e: &u32| shares[*e as usize] / sum;
        let total: f64 = if self.renormalise {
            order.iter().map(own).sum()
        } else {
            1.0
        };
        let weights = order.iter().map(|e| own(e) / total).collect();
        (order, weights)
    }
}

impl Case for ExpertsCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let half = self.half;
        let (n, k, used) = (self.n as usize, self.k as usize, self.used as usize);
        let pairs = self.tokens as usize * used;
        let logits = self.logits(&mut chance);
        let logits_at = if self.wide_logits {
            let logits: Vec<f32> = logits.iter().map(|l| *l as f32).collect();
            bench.input_f32(&logits)?
        } else {
            bench.input(&half.encode(&logits))?
        };
        let (weights_at, experts_at) = (bench.output(4 * pairs)?, bench.output(4 * pairs)?);
        let suffix = if self.wide_logits { "f32" } else { half.name() };
        bench.launch(
            &Launch::new(format!("moe_route_{suffix}"), [self.tokens, 1, 1], 32),
            &[
                A::Pointer(weights_at),
                A::Pointer(experts_at),
                A::Pointer(logits_at),
                A::U32(self.count),
                A::U32(self.used),
                A::U32(u32::from(self.renormalise)),
            ],
        )?;
        let (experts, weights): (Vec<_>, Vec<_>) = logits
            .chunks(self.count as usize)
            .map(|logits| self.routed(logits))
            .unzip();
        let (experts, weights) = (experts.concat(), weights.concat());
        compare::equal("experts", &bench.download_u32(experts_at, pairs)?, &experts)?;
        let got: Vec<f64> = bench
            .download_f32(weights_at, pairs)?
            .iter()
            .map(|w| f64::from(*w))
            .collect();
        compare::rows("weights", &got, &weights, used, 1e-5)?;

        let places_at = bench.output(4 * pairs)?;
        let starts_at = bench.output(4 * (self.count as usize + 1))?;
        bench.launch(
            &Launch::new("moe_sort", [1, 1, 1], 1024),
            &[
                A::Pointer(places_at),
                A::Pointer(starts_at),
                A::Pointer(experts_at),
                A::U32(pairs as u32),
                A::U32(self.count),
            ],
        )?;
        let mut places: Vec<u32> = (0..pairs as u32).collect();
        places.sort_by_key(|place| experts[*place as usize]);
        let before = |e: u32| experts.iter().filter(|other| **other < e).count() as u32;
        let starts: Vec<u32> = (0..=self.count).map(before).collect();
        compare::equal("places", &bench.download_u32(places_at, pairs)?, &places)?;
        compare::equal("starts", &bench.download_u32(starts_at, starts.len())?, &starts)?;

        let w = Weights::random(&mut chance, half, self.packing, self.n * self.count, self.k);
        let w_at = bench.input(&w.bytes)?;
        let x = half.round(chance.values(self.tokens as usize * k, 1.0));
        let x_at = bench.input(&half.encode(&x))?;
        let products_at = bench.output(2 * pairs * n)?;
        let name = format!(
            "{}_m{}",
            products::kernel("moe_gemv", half, self.packing),
            self.most
        );
        bench.launch(
            &Launch::new(name, [self.n.div_ceil(16), self.count, 1], 256),
            &[
                A::Pointer(products_at),
                A::Pointer(x_at),
                A::Pointer(w_at),
                A::Pointer(places_at),
                A::Pointer(starts_at),
                A::U32(self.n),
                A::U32(self.k),
                A::U32(self.used),
            ],
        )?;
        let mut want = Vec::new();
        for (place, &expert) in experts.iter().enumerate() {
            let x = &x[place / used * k..][..k];
            let w = &w.values[expert as usize * n * k..][..n * k];
            want.extend(w.chunks(k).map(|w| dot(x, w)));
        }
        let got = bench.download_half(half, products_at, want.len())?;
        let worst = compare::rows("experts' products", &got, &want, n, half.tolerance())?;

        let out = bench.output(2 * self.tokens as usize * n)?;
        bench.launch(
            &Launch::new(
                format!("moe_combine_{}", half.name()),
                [self.tokens, self.n.div_ceil(2048), 1],
                256,
            ),
            &[
                A::Pointer(out),
                A::Pointer(products_at),
                A::Pointer(weights_at),
                A::Pointer(experts_at),
                A::U32(self.used),
                A::U32(self.n),
            ],
        )?;
        let mut sums = Vec::new();
        for (rows, weights) in got.chunks(used * n).zip(weights.chunks(used)) {
            sums.extend((0..n).map(|at| {
                weights
                    .iter()
                    .zip(rows.chunks(n))
                    .map(|(w, r)| w * r[at])
                    .sum::<f64>()
            }));
        }
        let got = bench.download_half(half, out, sums.len())?;
        Ok(worst.max(compare::rows("combined", &got, &sums, n, half.tolerance())?))
    }
}
