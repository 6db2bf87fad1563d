//! The sampling kernels against this room's own sampler: the same tokens, to the bit. Cases like those of
//! [`crate::model::kernel_cases`].

use half::bf16;

use super::request::Sampling;
use super::sampler::{self, History};
use crate::model::kernel_cases::{Argument as A, Bench, Case, Chance, Family, Launch, Size, compare};
use crate::units::TokenId;

/// The families of kernels whose reference is here.
pub const FAMILIES: [Family; 2] = [
    ("sample", |chance, size| {
        Box::new(SampleCase::random(chance, size))
    }),
    ("candidates", |chance, size| {
        Box::new(CandidatesCase::random(chance, size))
    }),
];

/// How a row of logits is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// As a model's: most far below a few.
    Peaked,
    /// So close that cuts fall among thousands of tokens.
    Flat,
    /// Few values, each many times.
    Tied,
    /// Some are −∞ or no number.
    Holed,
    /// None is finite.
    Empty,
}

impl Spread {
    const ALL: [Self; 8] = [
        Self::Peaked,
        Self::Peaked,
        Self::Peaked,
        Self::Flat,
        Self::Tied,
        Self::Holed,
        Self::Holed,
        Self::Empty,
    ];

    fn logits(self, chance: &mut Chance, count: u32) -> Vec<f32> {
        let mut one = || -> f32 {
            let value = match self {
                Self::Peaked | Self::Holed => 6.0 * (0..4).map(|_| chance.uniform() - 0.5).sum::<f64>(),
                Self::Flat => 1e-3 * chance.uniform(),
                Self::Tied => chance.between(0..=6) as f64 - 3.0,
                Self::Empty => f64::NEG_INFINITY,
            };
            match self {
                Self::Holed if chance.one_in(3) => {
                    chance.pick(&[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NAN])
                }
                // Logits of half float models tie often.
                Self::Peaked if chance.one_in(2) => bf16::from_f64(value).to_f32(),
                _ => value as f32,
            }
        };
        (0..count).map(|_| one()).collect()
    }
}

/// Rows of one vocabulary, every one with settings of its own.
#[derive(Clone, Debug)]
pub struct SampleCase {
    pub vocabulary: u32,
    pub rows: Vec<(Sampling, Spread)>,
    pub seed: u64,
}

fn vocabulary(chance: &mut Chance, size: Size) -> u32 {
    match size {
        Size::Small => chance.between(1..=9000),
        Size::Large => chance.between(1..=262_144),
    }
}

fn sampling(chance: &mut Chance, vocabulary: u32) -> Sampling {
    let some = |chance: &mut Chance, usual: f32, other: f32| if chance.one_in(2) { usual } else { other };
    let biases = if chance.one_in(3) {
        chance.between(1..=5)
    } else {
        0
    };
    let mut biased: Vec<u32> = (0..biases).map(|_| chance.between(0..=vocabulary + 2)).collect();
    biased.sort_unstable();
    biased.dedup();
    let (temperature, top_p) = (chance.uniform() as f32 * 3.0, chance.uniform() as f32);
    let top_k = chance.between(0..=vocabulary.min(600));
    Sampling {
        temperature: if chance.one_in(5) { 0.0 } else { temperature },
        top_p: some(chance, 1.0, top_p.max(1e-6)),
        top_k: if chance.one_in(2) { 0 } else { top_k },
        min_p: some(chance, 0.0, 0.05),
        repetition_penalty: some(chance, 1.0, 1.3),
        presence_penalty: some(chance, 0.0, 0.7),
        frequency_penalty: some(chance, 0.0, 0.2),
        logit_bias: biased
            .into_iter()
            .map(|id| (TokenId(id), chance.values(1, 3.0)[0] as f32))
            .collect(),
        seed: chance.bits(),
    }
}

impl SampleCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let vocabulary = vocabulary(chance, size);
        let rows = match size {
            Size::Small => chance.between(1..=3),
            Size::Large => chance.between(1..=64),
        };
        Self {
            vocabulary,
            rows: (0..rows)
                .map(|_| (sampling(chance, vocabulary), chance.pick(&Spread::ALL)))
                .collect(),
            seed: chance.bits(),
        }
    }
}

/// A row of the kernels' `SampleRow`s.
struct Row<'a> {
    sampling: &'a Sampling,
    position: u32,
    history: (u32, u32),
    biases: (u32, u32),
    /// Row of the masks + 1; 0 is none.
    mask: u32,
}

impl Row<'_> {
    fn append(&self, bytes: &mut Vec<u8>) {
        let s = self.sampling;
        for value in [s.temperature, s.top_p, s.min_p] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(s.top_k.to_le_bytes());
        for value in [s.repetition_penalty, s.presence_penalty, s.frequency_penalty] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(self.position.to_le_bytes());
        bytes.extend(s.seed.to_le_bytes());
        let rest = [
            self.history.0,
            self.history.1,
            self.biases.0,
            self.biases.1,
            self.mask,
            0,
        ];
        rest.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    }
}

impl Case for SampleCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let vocabulary = self.vocabulary as usize;
        let mask_words = vocabulary.div_ceil(32);
        let (mut rows, mut logits) = (Vec::new(), Vec::new());
        let (mut history_list, mut bias_list, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        let (mut want_logits, mut want_tokens, mut want_logprobs) = (Vec::new(), Vec::new(), Vec::new());
        for (sampling, spread) in &self.rows {
            let mut own = spread.logits(&mut chance, self.vocabulary);
            logits.extend(own.iter().copied());
            let masked = chance.one_in(4);
            if masked {
                let words: Vec<u32> = (0..mask_words).map(|_| chance.bits() as u32).collect();
                for (id, logit) in own.iter_mut().enumerate() {
                    if words[id / 32] >> (id % 32) & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
                masks.extend(words);
            }
            let some: Vec<TokenId> = (0..chance.between(0..=40))
                .map(|_| TokenId(chance.between(0..=self.vocabulary)))
                .collect();
            let (prompt, answer) = some.split_at(some.len() / 2);
            let mut history = History::new(sampling, prompt);
            answer.iter().for_each(|token| history.push(sampling, *token));
            let (history_from, bias_from) = (history_list.len() as u32 / 2, bias_list.len() as u32 / 2);
            history_list.extend(
                history
                    .seen()
                    .iter()
                    .flat_map(|seen| [seen.token.0, seen.answered]),
            );
            bias_list.extend(
                sampling
                    .logit_bias
                    .iter()
                    .flat_map(|(token, bias)| [token.0, bias.to_bits()]),
            );
            let position = chance.between(0..=100_000);
            Row {
                sampling,
                position,
                history: (history_from, history_list.len() as u32 / 2),
                biases: (bias_from, bias_list.len() as u32 / 2),
                mask: if masked {
                    (masks.len() / mask_words) as u32
                } else {
                    0
                },
            }
            .append(&mut rows);
            let token = sampler::sample(&mut own, sampling, &history, position as usize);
            want_tokens.push(token.0);
            want_logprobs.push(f64::from(sampler::logprobs(&own, token, 0).0));
            want_logits.extend(own);
        }
        let logits_at = bench.changing(bytemuck::cast_slice(&logits))?;
        let rows_at = bench.input(&rows)?;
        let count = self.rows.len();
        let grid = [count as u32, 1, 1];
        let lists = [
            bench.input_u32(&history_list)?,
            bench.input_u32(&bias_list)?,
            bench.input_u32(&masks)?,
        ];
        bench.launch(
            &Launch::new("adjust_logits", grid, 1024),
            &[
                A::Pointer(logits_at),
                A::Pointer(rows_at),
                A::Pointer(lists[0]),
                A::Pointer(lists[1]),
                A::Pointer(lists[2]),
                A::U32(self.vocabulary),
            ],
        )?;
        // To the bit but for NaN, which has many.
        let bits = |logits: &[f32]| -> Vec<u32> {
            let bits = |l: &f32| {
                if l.is_nan() {
                    f32::NAN.to_bits()
                } else {
                    l.to_bits()
                }
            };
            logits.iter().map(bits).collect()
        };
        let adjusted = bench.download_f32(logits_at, logits.len())?;
        compare::equal("adjusted logits", &bits(&adjusted), &bits(&want_logits))?;
        let (tokens_at, logprobs_at) = (bench.output(4 * count)?, bench.output(4 * count)?);
        bench.launch(
            &Launch::new("sample", grid, 1024),
            &[
                A::Pointer(tokens_at),
                A::Pointer(logprobs_at),
                A::Pointer(logits_at),
                A::Pointer(rows_at),
                A::U32(self.vocabulary),
            ],
        )?;
        compare::equal("tokens", &bench.download_u32(tokens_at, count)?, &want_tokens)?;
        let got: Vec<f64> = bench
            .download_f32(logprobs_at, count)?
            .iter()
            .map(|l| f64::from(*l))
            .collect();
        compare::rows("logprobs", &got, &want_logprobs, 1, 1e-6)
    }
}

/// The highest logits of rows, in order.
#[derive(Clone, Debug)]
pub struct CandidatesCase {
    pub vocabulary: u32,
    pub rows: Vec<Spread>,
    pub count: u32,
    pub seed: u64,
}

impl CandidatesCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        Self {
            vocabulary: vocabulary(chance, size),
            rows: (0..chance.between(1..=2))
                .map(|_| chance.pick(&Spread::ALL))
                .collect(),
            count: chance.pick(&[1, 20, 256]),
            seed: chance.bits(),
        }
    }
}

impl Case for CandidatesCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let logits: Vec<f32> = self
            .rows
            .iter()
            .flat_map(|spread| spread.logits(&mut chance, self.vocabulary))
            .collect();
        let (rows, count) = (self.rows.len(), self.count as usize);
        let values_at = bench.output(4 * rows * count)?;
        let ids_at = bench.output(4 * rows * count)?;
        let stats_at = bench.output(8 * rows)?;
        let logits_at = bench.input_f32(&logits)?;
        bench.launch(
            &Launch::new("candidates", [rows as u32, 1, 1], 1024),
            &[
                A::Pointer(values_at),
                A::Pointer(ids_at),
                A::Pointer(stats_at),
                A::Pointer(logits_at),
                A::U32(self.vocabulary),
                A::U32(self.count),
            ],
        )?;
        let (mut want_values, mut want_ids, mut want_stats) = (Vec::new(), Vec::new(), Vec::new());
        for logits in logits.chunks(self.vocabulary as usize) {
            let mut order: Vec<u32> = (0..self.vocabulary)
                .filter(|id| logits[*id as usize] > f32::NEG_INFINITY)
                .collect();
            order.sort_by(|a, b| {
                let (a_logit, b_logit) = (logits[*a as usize], logits[*b as usize]);
                b_logit
                    .partial_cmp(&a_logit)
                    .expect("no NaN is above -inf")
                    .then(a.cmp(b))
            });
            let peak = order.first().map_or(f32::NEG_INFINITY, |id| logits[*id as usize]);
            let sum: f64 = order
                .iter()
                .map(|id| f64::from(logits[*id as usize] - peak).exp())
                .sum();
            want_stats.extend([f64::from(peak), sum.ln()]);
            order.truncate(count);
            want_values.extend(order.iter().map(|id| logits[*id as usize]));
            want_values.resize(want_values.len() + count - order.len(), f32::NEG_INFINITY);
            want_ids.extend(order.iter().copied());
            want_ids.resize(want_ids.len() + count - order.len(), u32::MAX);
        }
        compare::equal("ids", &bench.download_u32(ids_at, rows * count)?, &want_ids)?;
        compare::equal(
            "values",
            &bench.download_f32(values_at, rows * count)?,
            &want_values,
        )?;
        let stats: Vec<f64> = bench
            .download_f32(stats_at, 2 * rows)?
            .iter()
            .map(|s| f64::from(*s))
            .collect();
        compare::rows("stats", &stats, &want_stats, 1, 1e-5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::kernel_cases::on_the_cpu::Cpu;

    fn run(family: usize, seed: u64) -> Result<(), TestCaseError> {
        let case = FAMILIES[family].1(&mut Chance::new(seed), Size::Small);
        case.check(&mut Cpu::default())
            .map(|_| ())
            .map_err(|error| TestCaseError::fail(format!("{error}\n{case:#?}")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(60) })]
        #[test]
        fn the_kernel_takes_the_token_that_the_sampler_takes(seed in any::<u64>()) {
            run(0, seed)?;
        }

        #[test]
        fn candidates_are_the_beginning_of_the_sorted_row(seed in any::<u64>()) {
            run(1, seed)?;
        }
    }
}
