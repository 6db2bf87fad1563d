//! Embeddings, norms, activations, biases, the last touch on logits.

use super::bench::{Argument as A, Bench, Half, Launch};
use super::quantised::Packing;
use super::{Case, Chance, Size, compare};

fn rows(chance: &mut Chance, size: Size) -> u32 {
    match size {
        Size::Small => chance.between(1..=5),
        Size::Large => chance.between(1..=300),
    }
}

/// Often a multiple of eight, as models have it, often not.
fn width(chance: &mut Chance, size: Size) -> u32 {
    let most = match size {
        Size::Small => 700,
        Size::Large => 9000,
    };
    let width = chance.between(1..=most);
    if chance.one_in(2) {
        width.next_multiple_of(8)
    } else {
        width
    }
}

/// Rows of a table, dense or quantised.
#[derive(Clone, Debug)]
pub struct EmbedCase {
    pub half: Half,
    pub packing: Option<Packing>,
    pub rows: u32,
    pub hidden: u32,
    pub vocabulary: u32,
    pub scale: f32,
    pub seed: u64,
}

impl EmbedCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let packing = if chance.one_in(2) {
            Some(chance.pick(&Packing::ALL))
        } else {
            None
        };
        let hidden = width(chance, size);
        Self {
            half: chance.half(),
            packing,
            rows: rows(chance, size),
            hidden: packing.map_or(hidden, |p| hidden.next_multiple_of(p.columns())),
            vocabulary: chance.between(1..=20),
            scale: chance.pick(&[1.0, 7.5]),
            seed: chance.bits(),
        }
    }
}

impl Case for EmbedCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let (width, half) = (self.hidden as usize, self.half);
        let ids: Vec<u32> = (0..self.rows)
            .map(|_| chance.between(0..=self.vocabulary - 1))
            .collect();
        let (table, bytes, kernel) = match self.packing {
            None => {
                let table = half.round(chance.values(width * self.vocabulary as usize, 1.0));
                let bytes = half.encode(&table);
                (table, bytes, format!("embed_{}", half.name()))
            }
            Some(packing) => {
                let blocks = packing.random_blocks(&mut chance, self.vocabulary, self.hidden);
                let table = packing.dequantise(&blocks);
                let packed = packing.pack(&blocks, self.vocabulary, self.hidden);
                let kernel = format!("embed_{}_{}", packing.name(), half.name());
                (table, packed, kernel)
            }
        };
        let out = bench.output(2 * width * ids.len())?;
        let mut arguments = vec![
            A::Pointer(out),
            A::Pointer(bench.input(&bytes)?),
            A::Pointer(bench.input_u32(&ids)?),
            A::U32(self.hidden),
        ];
        if self.packing.is_some() {
            arguments.push(A::U32(self.vocabulary));
        }
        arguments.push(A::F32(self.scale));
        bench.launch(&Launch::new(kernel, [self.rows, 1, 1], 256), &arguments)?;
        let want: Vec<f64> = ids
            .iter()
            .flat_map(|&id| &table[id as usize * width..][..width])
            .map(|value| value * f64::from(self.scale))
            .collect();
        let got = bench.download_half(half, out, want.len())?;
        compare::rows("embed", &got, &want, width, half.tolerance())
    }
}

fn normed(x: &[f64], weight: &[f32], eps: f32) -> Vec<f64> {
    let mean_square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let inverse = 1.0 / (mean_square + f64::from(eps)).sqrt();
    x.iter()
        .zip(weight)
        .map(|(x, w)| x * inverse * f64::from(*w))
        .collect()
}

/// Rows picked out of wider ones and normed.
#[derive(Clone, Debug)]
pub struct NormCase {
    pub half: Half,
    pub rows: u32,
    pub width: u32,
    /// What a row of `x` is wider than the norm.
    pub extra: u32,
    /// Rows are picked by an index; else all in order, in place.
    pub picked: bool,
    pub seed: u64,
}

impl NormCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        Self {
            half: chance.half(),
            rows: rows(chance, size),
            width: width(chance, size),
            extra: chance.pick(&[0, 8, 3]),
            picked: chance.one_in(2),
            seed: chance.bits(),
        }
    }
}

impl Case for NormCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        const EPS: f32 = 1e-5;
        let mut chance = Chance::new(self.seed);
        let (half, width) = (self.half, self.width as usize);
        let stride = width + self.extra as usize;
        let size = chance.pick(&[0.01, 1.0, 30.0]);
        let x = half.round(chance.values(stride * self.rows as usize, size));
        let weight = chance.floats(width, -2.0, 2.0);
        let picked: Vec<u32> = (0..self.rows)
            .map(|_| chance.between(0..=self.rows - 1))
            .collect();
        let bytes = half.encode(&x);
        let (source, out, out_stride) = if self.picked {
            (
                bench.input(&bytes)?,
                bench.output(2 * width * picked.len())?,
                width,
            )
        } else {
            let place = bench.changing(&bytes)?;
            (place, place, stride)
        };
        let index = if self.picked { bench.input_u32(&picked)? } else { 0 };
        let arguments = [
            A::Pointer(out),
            A::Pointer(source),
            A::Pointer(bench.input_f32(&weight)?),
            A::Pointer(index),
            A::U32(self.width),
            A::U32(stride as u32),
            A::U32(out_stride as u32),
            A::F32(EPS),
        ];
        let kernel = format!("rms_norm_{}", half.name());
        bench.launch(&Launch::new(kernel, [self.rows, 1, 1], 512), &arguments)?;
        let mut want = Vec::new();
        for (row, picked) in picked.iter().enumerate() {
            let from = if self.picked { *picked as usize } else { row };
            let x = &x[from * stride..][..stride];
            want.extend(normed(&x[..width], &weight, EPS));
            if !self.picked {
                // What lies behind the normed part stays.
                want.extend(&x[width..]);
            }
        }
        let got = bench.download_half(half, out, want.len())?;
        compare::rows("rms_norm", &got, &want, out_stride, half.tolerance())
    }
}

/// The residual stream's sum and the norms around it.
#[derive(Clone, Debug)]
pub struct ResidualCase {
    pub half: Half,
    pub rows: u32,
    pub width: u32,
    pub scale: f32,
    pub part_normed: bool,
    pub normed: bool,
    /// Without it only the stream changes.
    pub has_out: bool,
    /// The result goes where the part was.
    pub onto_part: bool,
    pub seed: u64,
}

impl ResidualCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        Self {
            half: chance.half(),
            rows: rows(chance, size),
            width: width(chance, size),
            scale: chance.pick(&[1.0, 0.22]),
            part_normed: chance.one_in(2),
            normed: chance.one_in(2),
            has_out: !chance.one_in(4),
            onto_part: chance.one_in(3),
            seed: chance.bits(),
        }
    }
}

impl Case for ResidualCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        const EPS: f32 = 1e-6;
        let mut chance = Chance::new(self.seed);
        let (half, width) = (self.half, self.width as usize);
        let count = width * self.rows as usize;
        let stream = half.round(chance.values(count, 2.0));
        let part = half.round(chance.values(count, 1.0));
        let part_weight = chance.floats(width, -1.0, 2.0);
        let weight = chance.floats(width, -1.0, 2.0);
        let stream_at = bench.changing(&half.encode(&stream))?;
        let part_at = bench.changing(&half.encode(&part))?;
        let out_at = match (self.has_out, self.onto_part) {
            (false, _) => 0,
            (true, true) => part_at,
            (true, false) => bench.output(2 * count)?,
        };
        let part_weight_at = if self.part_normed {
            bench.input_f32(&part_weight)?
        } else {
            0
        };
        let weight_at = if self.normed { bench.input_f32(&weight)? } else { 0 };
        let arguments = [
            A::Pointer(out_at),
            A::Pointer(stream_at),
            A::Pointer(part_at),
            A::Pointer(part_weight_at),
            A::Pointer(weight_at),
            A::U32(self.width),
            A::F32(self.scale),
            A::F32(EPS),
        ];
        let kernel = format!("residual_norm_{}", half.name());
        bench.launch(&Launch::new(kernel, [self.rows, 1, 1], 512), &arguments)?;
        let mut sums = Vec::new();
        for (stream, part) in stream.chunks(width).zip(part.chunks(width)) {
            let part = if self.part_normed {
                normed(part, &part_weight, EPS)
            } else {
                part.to_vec()
            };
            sums.extend(
                stream
                    .iter()
                    .zip(part)
                    .map(|(s, p)| s + f64::from(self.scale) * p),
            );
        }
        let got_stream = bench.download_half(half, stream_at, count)?;
        let worst = compare::rows("the stream", &got_stream, &sums, width, half.tolerance())?;
        if !self.has_out {
            return Ok(worst);
        }
        // The norm is that of the stream as it is kept.
        let want: Vec<f64> = if self.normed {
            got_stream
                .chunks(width)
                .flat_map(|row| normed(row, &weight, EPS))
                .collect()
        } else {
            got_stream
        };
        let got = bench.download_half(half, out_at, count)?;
        let own = compare::rows("the normed stream", &got, &want, width, half.tolerance())?;
        Ok(worst.max(own))
    }
}

/// The gate of a feed-forward part.
#[derive(Clone, Debug)]
pub struct ActivationCase {
    pub half: Half,
    pub function: Function,
    pub rows: u32,
    pub inner: u32,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Silu,
    GeluTanh,
    GeluErf,
    Relu,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
            Self::GeluErf => "gelu_erf",
            Self::Relu => "relu",
        }
    }

    fn of(self, x: f64) -> f64 {
        match self {
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::GeluTanh => {
                0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Self::GeluErf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Self::Relu => x.max(0.0),
        }
    }
}

/// The integral of 2/√π · exp(−t²) from 0, by Simpson's rule; at 6 it is 1 to all digits.
fn erf(x: f64) -> f64 {
    const STEPS: usize = 400;
    let end = x.abs().min(6.0);
    let step = end / STEPS as f64;
    let of = |i: usize| (-(i as f64 * step).powi(2)).exp();
    let inner: f64 = (1..STEPS)
        .map(|i| of(i) * if i % 2 == 1 { 4.0 } else { 2.0 })
        .sum();
    let sum = (of(0) + inner + of(STEPS)) * step / 3.0;
    (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x)
}

impl ActivationCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let functions = [
            Function::Silu,
            Function::GeluTanh,
            Function::GeluErf,
            Function::Relu,
        ];
        Self {
            half: chance.half(),
            function: chance.pick(&functions),
            rows: rows(chance, size),
            inner: width(chance, size),
            seed: chance.bits(),
        }
    }
}

impl Case for ActivationCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let (half, inner) = (self.half, self.inner as usize);
        let size = chance.pick(&[1.0, 12.0]);
        let gate_up = half.round(chance.values(2 * inner * self.rows as usize, size));
        let out = bench.output(2 * inner * self.rows as usize)?;
        let arguments = [
            A::Pointer(out),
            A::Pointer(bench.input(&half.encode(&gate_up))?),
            A::U32(self.inner),
        ];
        let kernel = format!("gated_{}_{}", self.function.name(), half.name());
        let grid = [self.rows, self.inner.div_ceil(2048), 1];
        bench.launch(&Launch::new(kernel, grid, 256), &arguments)?;
        let want: Vec<f64> = gate_up
            .chunks(2 * inner)
            .flat_map(|row| {
                let (gate, up) = row.split_at(inner);
                gate.iter().zip(up).map(|(g, u)| self.function.of(*g) * u)
            })
            .collect();
        let got = bench.download_half(half, out, want.len())?;
        compare::rows("gated", &got, &want, inner, half.tolerance())
    }
}

/// A bias on rows of a wider matrix.
#[derive(Clone, Debug)]
pub struct BiasCase {
    pub half: Half,
    pub rows: u32,
    pub width: u32,
    pub extra: u32,
    pub seed: u64,
}

impl BiasCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        Self {
            half: chance.half(),
            rows: rows(chance, size),
            width: width(chance, size),
            extra: chance.pick(&[0, 8, 5]),
            seed: chance.bits(),
        }
    }
}

impl Case for BiasCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let (half, width) = (self.half, self.width as usize);
        let stride = width + self.extra as usize;
        let x = half.round(chance.values(stride * self.rows as usize, 1.0));
        let bias = half.round(chance.values(width, 1.0));
        let place = bench.changing(&half.encode(&x))?;
        let arguments = [
            A::Pointer(place),
            A::Pointer(bench.input(&half.encode(&bias))?),
            A::U32(self.width),
            A::U32(stride as u32),
        ];
        let grid = [self.rows, self.width.div_ceil(2048), 1];
        bench.launch(
            &Launch::new(format!("add_bias_{}", half.name()), grid, 256),
            &arguments,
        )?;
        let added = |(i, x): (usize, &f64)| x + bias.get(i % stride).unwrap_or(&0.0);
        let want: Vec<f64> = x.iter().enumerate().map(added).collect();
        let got = bench.download_half(half, place, want.len())?;
        compare::rows("add_bias", &got, &want, stride, half.tolerance())
    }
}

/// Logits' divisor and soft cap; `None` for f32 in place.
#[derive(Clone, Debug)]
pub struct LogitsCase {
    pub half: Option<Half>,
    pub count: u32,
    pub divisor: f32,
    pub softcap: f32,
    pub seed: u64,
}

impl LogitsCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let most = match size {
            Size::Small => 5000,
            Size::Large => 1 << 22,
        };
        Self {
            half: chance.pick(&[None, Some(Half::F16), Some(Half::Bf16)]),
            count: chance.between(1..=most),
            divisor: chance.pick(&[1.0, 8.0]),
            softcap: chance.pick(&[0.0, 30.0]),
            seed: chance.bits(),
        }
    }
}

impl Case for LogitsCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let values = chance.values(self.count as usize, 60.0);
        let (logits, out, source, name) = match self.half {
            Some(half) => {
                let logits = half.round(values);
                let source = bench.input(&half.encode(&logits))?;
                (
                    logits,
                    bench.output(4 * self.count as usize)?,
                    source,
                    half.name(),
                )
            }
            None => {
                let logits: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                let place = bench.changing(bytemuck::cast_slice(&logits))?;
                (
                    logits.iter().map(|l| f64::from(*l)).collect(),
                    place,
                    place,
                    "f32",
                )
            }
        };
        let arguments = [
            A::Pointer(out),
            A::Pointer(source),
            A::U64(u64::from(self.count)),
            A::F32(self.divisor),
            A::F32(self.softcap),
        ];
        let grid = [self.count.div_ceil(2048), 1, 1];
        bench.launch(
            &Launch::new(format!("finish_logits_{name}"), grid, 256),
            &arguments,
        )?;
        let (divisor, cap) = (f64::from(self.divisor), f64::from(self.softcap));
        let finish = |logit: &f64| {
            let logit = logit / divisor;
            if cap > 0.0 {
                cap * (logit / cap).tanh()
            } else {
                logit
            }
        };
        let want: Vec<f64> = logits.iter().map(finish).collect();
        let got: Vec<f64> = bench
            .download_f32(out, want.len())?
            .iter()
            .map(|l| f64::from(*l))
            .collect();
        compare::rows("finish_logits", &got, &want, want.len(), 1e-5)
    }
}
