//! Attention over pages: one token a sequence, and chunks of prompts.

use super::bench::{Argument as A, Bench, Half, Launch};
use super::compare::{self, Yardstick};
use super::{Case, Chance, Size};
use crate::model::PAGE_TOKENS;

/// What both kinds of attention share.
#[derive(Clone, Debug)]
pub struct Spec {
    pub half: Half,
    pub q_heads: u32,
    pub kv_heads: u32,
    pub dim: u32,
    /// 0 sees all.
    pub window: u32,
    /// 0 is none.
    pub softcap: f32,
    pub scale: f32,
    /// Queries lie in rows this much wider than the heads, as in a fused projection.
    pub extra: u32,
}

const DIMS: [u32; 4] = [64, 96, 128, 256];

impl Spec {
    fn random(chance: &mut Chance, most_group: u32) -> Self {
        let dim = chance.pick(&[12, 20, 64, 64, 80, 96, 128, 128, 256]);
        let kv_heads = chance.between(1..=3);
        Self {
            half: chance.half(),
            q_heads: kv_heads * chance.between(1..=most_group),
            kv_heads,
            dim,
            window: if chance.one_in(2) {
                chance.between(1..=300)
            } else {
                0
            },
            softcap: if chance.one_in(3) {
                chance.pick(&[5.0, 50.0])
            } else {
                0.0
            },
            scale: chance.pick(&[1.0, 0.3]) / (dim as f32).sqrt(),
            extra: chance.pick(&[0, 8, 2]),
        }
    }

    fn group(&self) -> u32 {
        self.q_heads / self.kv_heads
    }

    fn q_stride(&self) -> usize {
        (self.q_heads * self.dim + self.extra) as usize
    }

    fn suffix(&self) -> u32 {
        *DIMS
            .iter()
            .find(|d| **d >= self.dim)
            .expect("heads are at most 256 wide")
    }

    /// One head's attention to the first `position + 1` of its sequence's tokens. `keys` and `values` are
    /// `[tokens][dim]`.
    fn attend(&self, query: &[f64], keys: &[&[f64]], values: &[&[f64]], position: usize) -> Vec<f64> {
        let end = position + 1;
        let start = if self.window == 0 {
            0
        } else {
            end.saturating_sub(self.window as usize)
        };
        let cap = f64::from(self.softcap);
        let scores: Vec<f64> = keys[start..end]
            .iter()
            .map(|key| {
                let score = query.iter().zip(*key).map(|(q, k)| q * k).sum::<f64>() * f64::from(self.scale);
                if cap > 0.0 {
                    cap * (score / cap).tanh()
                } else {
                    score
                }
            })
            .collect();
        let peak = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - peak).exp()).collect();
        let mass: f64 = weights.iter().sum();
        let mut out = vec![0.0; query.len()];
        for (weight, value) in weights.iter().zip(&values[start..end]) {
            for (out, value) in out.iter_mut().zip(*value) {
                *out += weight / mass * value;
            }
        }
        out
    }
}

/// Keys and values of sequences in pages of a pool, in any order. What no sequence holds is NaN.
struct Pool {
    keys: Vec<f64>,
    values: Vec<f64>,
    tables: Vec<u32>,
    table_width: usize,
}

impl Pool {
    fn new(chance: &mut Chance, spec: &Spec, tokens: &[usize]) -> Self {
        let table_width = tokens
            .iter()
            .map(|t| t.div_ceil(PAGE_TOKENS))
            .max()
            .unwrap_or(0)
            .max(1)
            + 1;
        let pages: usize = tokens.iter().map(|t| t.div_ceil(PAGE_TOKENS)).sum::<usize>() + 2;
        let order = chance.shuffled(pages as u32);
        let page_values = spec.kv_heads as usize * PAGE_TOKENS * spec.dim as usize;
        let mut pool = Self {
            keys: vec![f64::NAN; pages * page_values],
            values: vec![f64::NAN; pages * page_values],
            tables: Vec::new(),
            table_width,
        };
        let mut free = order.into_iter();
        for &tokens in tokens {
            let mut table: Vec<u32> = free.by_ref().take(tokens.div_ceil(PAGE_TOKENS)).collect();
            // A table's end names pages that are no sequence's: they must not be read.
            table.resize(table_width, u32::MAX);
            for token in 0..tokens {
                for head in 0..spec.kv_heads as usize {
                    let at = Self::place(spec, &table, token, head);
                    let dim = spec.dim as usize;
                    let size = 2.0;
                    pool.keys[at..at + dim].copy_from_slice(&chance.values(dim, size));
                    pool.values[at..at + dim].copy_from_slice(&chance.values(dim, 1.0));
                }
            }
            pool.tables.extend(table);
        }
        pool.keys = spec.half.round(pool.keys);
        pool.values = spec.half.round(pool.values);
        pool
    }

    fn place(spec: &Spec, table: &[u32], token: usize, head: usize) -> usize {
        let page = table[token / PAGE_TOKENS] as usize;
        ((page * spec.kv_heads as usize + head) * PAGE_TOKENS + token % PAGE_TOKENS) * spec.dim as usize
    }

    /// `[tokens][dim]` of one sequence and KV head.
    fn head<'a>(
        &self,
        spec: &Spec,
        from: &'a [f64],
        sequence: usize,
        head: usize,
        tokens: usize,
    ) -> Vec<&'a [f64]> {
        let table = &self.tables[sequence * self.table_width..][..self.table_width];
        (0..tokens)
            .map(|token| &from[Self::place(spec, table, token, head)..][..spec.dim as usize])
            .collect()
    }

    /// Tables whose pages that lie wholly before a window are gone.
    fn tables_without_what_slid_out(&self, spec: &Spec, first_positions: &[usize]) -> Vec<u32> {
        let mut tables = self.tables.clone();
        if spec.window > 0 {
            for (table, first) in tables.chunks_mut(self.table_width).zip(first_positions) {
                let gone = (first + 1).saturating_sub(spec.window as usize) / PAGE_TOKENS;
                table[..gone].fill(u32::MAX);
            }
        }
        tables
    }
}

/// Decode and reduce. The last row alone, over another grid, must give the same bits.
#[derive(Clone, Debug)]
pub struct DecodeCase {
    pub spec: Spec,
    /// Tokens each sequence holds with the new one; 0 for a row that only fills up a batch.
    pub contexts: Vec<u32>,
    /// Blocks along the splits.
    pub blocks: u32,
    pub seed: u64,
}

impl DecodeCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let (rows, context) = match size {
            Size::Small => (4, 400),
            Size::Large => (24, 3000),
        };
        let rows = chance.between(1..=rows);
        let contexts = (0..rows)
            .map(|_| {
                if chance.one_in(6) {
                    0
                } else {
                    chance.between(1..=context)
                }
            })
            .collect();
        Self {
            spec: Spec::random(chance, 20),
            contexts,
            blocks: chance.between(1..=5),
            seed: chance.bits(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the kernel's")]
    fn launch(
        &self,
        bench: &mut dyn Bench,
        pages: [u64; 2],
        queries: &[f64],
        tables: &[u32],
        table_width: usize,
        positions: &[u32],
        blocks: u32,
    ) -> Result<Vec<u8>, String> {
        let spec = &self.spec;
        let half = spec.half;
        let rows = positions.len();
        let longest = positions.iter().map(|p| p.wrapping_add(1)).max().unwrap_or(0);
        let mut splits = longest.div_ceil(128).max(1);
        if spec.window > 0 {
            splits = splits.min(spec.window.div_ceil(128) + 1);
        }
        let heads = rows * spec.q_heads as usize;
        let partial = bench.output(4 * heads * (splits * spec.dim) as usize)?;
        let stats = bench.output(4 * heads * splits as usize * 2)?;
        let positions_at = bench.input_u32(positions)?;
        let arguments = [
            A::Pointer(partial),
            A::Pointer(stats),
            A::Pointer(bench.input(&half.encode(queries))?),
            A::Pointer(pages[0]),
            A::Pointer(pages[1]),
            A::Pointer(bench.input_u32(tables)?),
            A::Pointer(positions_at),
            A::U32(table_width as u32),
            A::U32(spec.q_stride() as u32),
            A::U32(spec.q_heads),
            A::U32(spec.kv_heads),
            A::U32(spec.dim),
            A::U32(splits),
            A::U32(spec.window),
            A::F32(spec.softcap),
            A::F32(spec.scale),
        ];
        let kernel = format!("decode_attention_{}_d{}", half.name(), spec.suffix());
        let grid = [blocks, spec.kv_heads * spec.group().div_ceil(16), rows as u32];
        bench.launch(&Launch::new(kernel, grid, 128), &arguments)?;
        let bytes = 2 * heads * spec.dim as usize;
        let out = bench.output(bytes)?;
        let arguments = [
            A::Pointer(out),
            A::Pointer(partial),
            A::Pointer(stats),
            A::Pointer(positions_at),
            A::U32(spec.q_heads),
            A::U32(spec.dim),
            A::U32(splits),
            A::U32(spec.window),
        ];
        let kernel = format!("decode_attention_reduce_{}", half.name());
        bench.launch(
            &Launch::new(kernel, [rows as u32, spec.q_heads, 1], 256),
            &arguments,
        )?;
        bench.download(out, bytes)
    }
}

impl Case for DecodeCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let spec = &self.spec;
        let (half, dim, stride) = (spec.half, spec.dim as usize, spec.q_stride());
        let tokens: Vec<usize> = self.contexts.iter().map(|c| *c as usize).collect();
        let pool = Pool::new(&mut chance, spec, &tokens);
        let queries = half.round(chance.values(stride * tokens.len(), 1.0));
        let positions: Vec<u32> = self.contexts.iter().map(|c| c.wrapping_sub(1)).collect();
        let firsts: Vec<usize> = tokens.iter().map(|t| t.saturating_sub(1)).collect();
        let tables = pool.tables_without_what_slid_out(spec, &firsts);
        let pages = [
            bench.input(&half.encode(&pool.keys))?,
            bench.input(&half.encode(&pool.values))?,
        ];
        let width = pool.table_width;
        let bytes = self.launch(bench, pages, &queries, &tables, width, &positions, self.blocks)?;
        let last = tokens.len() - 1;
        let alone = self.launch(
            bench,
            pages,
            &queries[last * stride..],
            &tables[last * width..],
            width,
            &positions[last..],
            self.blocks + 1,
        )?;
        compare::equal("the last row alone", &alone, &bytes[bytes.len() - alone.len()..])?;
        let mut want = Vec::new();
        for (row, &tokens) in tokens.iter().enumerate() {
            for head in 0..spec.q_heads {
                if tokens == 0 {
                    want.extend(vec![0.0; dim]);
                    continue;
                }
                let kv_head = (head / spec.group()) as usize;
                let keys = pool.head(spec, &pool.keys, row, kv_head, tokens);
                let values = pool.head(spec, &pool.values, row, kv_head, tokens);
                let query = &queries[row * stride + head as usize * dim..][..dim];
                want.extend(spec.attend(query, &keys, &values, tokens - 1));
            }
        }
        let (got, tolerance) = (half.decode(&bytes), half.tolerance());
        compare::rows_by(Yardstick::Peak, "decode", &got, &want, dim, tolerance)
    }
}

/// Chunks of several sequences. The last sequence, cut in two, must give the same bits.
#[derive(Clone, Debug)]
pub struct PrefillCase {
    pub spec: Spec,
    /// Of each sequence: tokens that were computed before, and new ones.
    pub chunks: Vec<(u32, u32)>,
    pub seed: u64,
}

impl PrefillCase {
    pub fn random(chance: &mut Chance, size: Size) -> Self {
        let (sequences, before, new) = match size {
            Size::Small => (3, 150, 90),
            Size::Large => (4, 600, 200),
        };
        let chunks = (0..chance.between(1..=sequences))
            .map(|_| {
                let before = if chance.one_in(2) {
                    chance.between(0..=before)
                } else {
                    0
                };
                (before, chance.between(1..=new))
            })
            .collect();
        Self {
            spec: Spec::random(chance, 9),
            chunks,
            seed: chance.bits(),
        }
    }

    fn launch(
        &self,
        bench: &mut dyn Bench,
        inputs: [u64; 4],
        table_width: usize,
        positions: &[u32],
        cu_seqlens: &[u32],
    ) -> Result<Vec<u8>, String> {
        let spec = &self.spec;
        let [queries, keys, values, tables] = inputs;
        let bytes = 2 * positions.len() * (spec.q_heads * spec.dim) as usize;
        let out = bench.output(bytes)?;
        let arguments = [
            A::Pointer(out),
            A::Pointer(queries),
            A::Pointer(keys),
            A::Pointer(values),
            A::Pointer(tables),
            A::Pointer(bench.input_u32(positions)?),
            A::Pointer(bench.input_u32(cu_seqlens)?),
            A::U32(table_width as u32),
            A::U32(spec.q_stride() as u32),
            A::U32(spec.q_heads),
            A::U32(spec.kv_heads),
            A::U32(spec.dim),
            A::U32(spec.window),
            A::F32(spec.softcap),
            A::F32(spec.scale),
        ];
        let longest = cu_seqlens.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        let (rows, shared) = match spec.suffix() {
            64 => (128, 49152),
            96 => (128, 73728),
            128 => (128, 98304),
            _ => (64, 163_840),
        };
        let launch = Launch {
            shared,
            ..Launch::new(
                format!("prefill_attention_{}_d{}", spec.half.name(), spec.suffix()),
                [
                    (longest * spec.group()).div_ceil(rows),
                    spec.kv_heads,
                    cu_seqlens.len() as u32 - 1,
                ],
                128,
            )
        };
        bench.launch(&launch, &arguments)?;
        bench.download(out, bytes)
    }
}

impl Case for PrefillCase {
    fn check(&self, bench: &mut dyn Bench) -> Result<f64, String> {
        let mut chance = Chance::new(self.seed);
        let spec = &self.spec;
        let (half, dim, stride) = (spec.half, spec.dim as usize, spec.q_stride());
        let tokens: Vec<usize> = self.chunks.iter().map(|(b, n)| (b + n) as usize).collect();
        let pool = Pool::new(&mut chance, spec, &tokens);
        let firsts: Vec<usize> = self.chunks.iter().map(|(before, _)| *before as usize).collect();
        let tables = pool.tables_without_what_slid_out(spec, &firsts);
        let mut positions = Vec::new();
        let mut cu_seqlens = vec![0];
        for &(before, new) in &self.chunks {
            positions.extend(before..before + new);
            cu_seqlens.push(positions.len() as u32);
        }
        let queries = half.round(chance.values(stride * positions.len(), 1.0));
        let inputs = [
            bench.input(&half.encode(&queries))?,
            bench.input(&half.encode(&pool.keys))?,
            bench.input(&half.encode(&pool.values))?,
            bench.input_u32(&tables)?,
        ];
        let width = pool.table_width;
        let bytes = self.launch(bench, inputs, width, &positions, &cu_seqlens)?;
        // The last sequence's chunk in two pieces, as two sequences with the same pages.
        let last = cu_seqlens.len() - 2;
        let (begin, end) = (cu_seqlens[last], cu_seqlens[last + 1]);
        let cut = begin + (end - begin) / 3;
        if cut > begin {
            let table = &pool.tables[last * width..][..width];
            let twice = bench.input_u32(&[table, table].concat())?;
            let pieces = self.launch(
                bench,
                [inputs[0], inputs[1], inputs[2], twice],
                width,
                &positions,
                &[begin, cut, end],
            )?;
            let from = 2 * begin as usize * (spec.q_heads * spec.dim) as usize;
            compare::equal("the last sequence in pieces", &pieces[from..], &bytes[from..])?;
        }
        let mut want = Vec::new();
        for (sequence, span) in cu_seqlens.windows(2).enumerate() {
            let heads: Vec<_> = (0..spec.kv_heads as usize)
                .map(|head| {
                    (
                        pool.head(spec, &pool.keys, sequence, head, tokens[sequence]),
                        pool.head(spec, &pool.values, sequence, head, tokens[sequence]),
                    )
                })
                .collect();
            for token in span[0]..span[1] {
                for head in 0..spec.q_heads {
                    let (keys, values) = &heads[(head / spec.group()) as usize];
                    let query = &queries[token as usize * stride + head as usize * dim..][..dim];
                    want.extend(spec.attend(query, keys, values, positions[token as usize] as usize));
                }
            }
        }
        let (got, tolerance) = (half.decode(&bytes), half.tolerance());
        compare::rows_by(Yardstick::Peak, "prefill", &got, &want, dim, tolerance)
    }
}
