use proptest::prelude::*;

use super::super::kv::PAGE_TOKENS;
use super::super::rotary::{Rope, RopeScaling};
use super::simd::Portable;
use super::*;
use crate::units::TokenId;

/// Numbers between −1 and 1, the same for the same seed.
fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn rope(rotary_dim: usize) -> Rope {
    Rope {
        rotary_dim,
        base: 100.0,
        scaling: RopeScaling::Default,
        max_positions: 4096,
    }
}

/// Attention by the book, in f64, on one whole sequence from its token `first` on.
fn reference(fused: &[f32], spec: &AttentionSpec, rope: Option<&Rope>, first: usize) -> Vec<f64> {
    let heads = spec.heads;
    let (width, dim) = (heads.fused_width(), heads.dim);
    let tokens = fused.len() / width;
    let head_of = |token: usize, head: usize| -> Vec<f64> {
        let head = &fused[token * width + head * dim..][..dim];
        head.iter().map(|v| f64::from(*v)).collect()
    };
    let turned = |token: usize, head: usize| -> Vec<f64> {
        let x = head_of(token, head);
        let Some(rope) = rope else { return x };
        let half = rope.rotary_dim / 2;
        let mut y = x.clone();
        for i in 0..half {
            let frequency = 1.0 / (rope.base as f32).powf(i as f32 / half as f32);
            // The model's own angle is one in f32.
            let angle = f64::from(token as f32 * frequency);
            y[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
            y[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
        }
        y
    };
    let keys: Vec<Vec<Vec<f64>>> = (0..heads.kv)
        .map(|kv| (0..tokens).map(|j| turned(j, heads.query + kv)).collect())
        .collect();
    let mut out = Vec::new();
    for token in first..tokens {
        for head in 0..heads.query {
            let kv = head / (heads.query / heads.kv);
            let query = turned(token, head);
            let from = spec.window.map_or(0, |w| (token + 1).saturating_sub(w));
            let weights: Vec<f64> = (from..=token)
                .map(|j| {
                    let dot: f64 = query.iter().zip(&keys[kv][j]).map(|(a, b)| a * b).sum();
                    let score = dot * f64::from(spec.scale);
                    let cap = spec.softcap.map(f64::from);
                    cap.map_or(score, |cap| cap * (score / cap).tanh()).exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            let mut mixed = vec![0.0; dim];
            for (weight, j) in weights.iter().zip(from..) {
                for (mixed, value) in mixed.iter_mut().zip(head_of(j, heads.query + heads.kv + kv)) {
                    *mixed += weight / sum * value;
                }
            }
            out.extend(mixed);
        }
    }
    out
}

/// A cache whose pages 0..`count` hold what no one may read.
fn dirty_cache(heads: Heads, layers: usize, count: usize) -> KvPages {
    let mut cache = KvPages::new(layers, heads.kv, heads.dim);
    let stale = vec![f32::NAN; heads.dim];
    for page in 0..count {
        cache.materialise(page);
        for slot in page * PAGE_TOKENS..(page + 1) * PAGE_TOKENS {
            for (layer, head) in (0..layers).flat_map(|l| (0..heads.kv).map(move |h| (l, h))) {
                cache.write(layer, head, slot, &stale, &stale).unwrap();
            }
        }
    }
    cache
}

/// Sequences side by side: `(fused rows, first position, pages)` each.
fn step(
    sequences: &[(&[f32], usize, &[u32])],
    spec: &AttentionSpec,
    rope: Option<&Rope>,
    cache: &mut KvPages,
) -> Vec<f32> {
    let mut batch = Batch::default();
    let mut fused = Vec::new();
    for (rows, first, pages) in sequences {
        let tokens = vec![TokenId(0); rows.len() / spec.heads.fused_width()];
        batch.push(&tokens, *first, first + tokens.len(), pages, true);
        fused.extend_from_slice(rows);
    }
    let rotary = rope.map(|r| r.tables(&batch.positions, &batch.extents));
    turn_and_store(&mut fused, &batch, rotary.as_ref(), spec.heads, 1, cache).unwrap();
    attend(&fused, &batch, spec, 1, cache)
}

fn specs() -> impl Strategy<Value = AttentionSpec> {
    let shapes = prop::sample::select(vec![
        (4, 2, 6),
        (7, 7, 8),
        (6, 3, 10),
        (5, 1, 16),
        (8, 1, 2),
        (1, 1, 40),
        (9, 1, 24),
        (4, 2, 64),
    ]);
    let window = prop::option::of(1usize..80);
    let softcap = prop::option::of(0.5f32..20.0);
    (shapes, 0.1f32..2.0, window, softcap).prop_map(|((query, kv, dim), scale, window, softcap)| {
        AttentionSpec {
            heads: Heads { query, kv, dim },
            scale,
            window,
            softcap,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However a sequence is cut into chunks and whoever shares its batches, its rows come out the same to the bit,
    /// and they are what the book says.
    #[test]
    fn chunks_and_company_do_not_matter(
        spec in specs(),
        turns in 0usize..3,
        length in 1usize..90,
        cuts in prop::collection::vec(1usize..40, 1..6),
        seed in 0u64..1000,
        neighbour in 1usize..50,
    ) {
        let heads = spec.heads;
        let rope = [None, Some(rope(heads.dim)), Some(rope(heads.dim / 4 * 2))][turns].clone();
        let width = heads.fused_width();
        let fused = random(seed, length * width);
        let other = random(seed + 1, neighbour * width);
        let pages = [5u32, 1, 7];
        let alone = step(&[(&fused, 0, &pages)], &spec, rope.as_ref(), &mut dirty_cache(heads, 2, 10));

        let mut cache = dirty_cache(heads, 2, 10);
        let mut packed = Vec::new();
        let mut done = 0;
        let mut cut = cuts.iter().cycle();
        while done < length {
            let take = (*cut.next().unwrap()).min(length - done);
            let rows = &fused[done * width..(done + take) * width];
            let company = [(other.as_slice(), 0, [2, 8].as_slice()), (rows, done, &pages)];
            let out = step(&company, &spec, rope.as_ref(), &mut cache);
            packed.extend_from_slice(&out[neighbour * heads.query_width()..]);
            done += take;
        }
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert!(bits(&alone) == bits(&packed), "packed rows have other bits");
        for (got, want) in alone.iter().zip(reference(&fused, &spec, rope.as_ref(), 0)) {
            prop_assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
        }
    }
}

/// Long enough for several segments and for other threads.
#[test]
fn threads_and_segments_do_not_matter() {
    let heads = Heads {
        query: 8,
        kv: 2,
        dim: 32,
    };
    let length = 2 * tile::SEGMENT + 77;
    let width = heads.fused_width();
    let fused = random(3, length * width);
    let pages: Vec<u32> = (0..length.div_ceil(PAGE_TOKENS) as u32).rev().collect();
    for (window, softcap) in [(None, None), (Some(600), Some(3.0))] {
        let spec = AttentionSpec {
            heads,
            scale: 1.5,
            window,
            softcap,
        };
        let rope = rope(heads.dim);
        let [one, three] = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut cache = dirty_cache(heads, 2, pages.len());
                let mut out = step(&[(&fused, 0, &pages)], &spec, Some(&rope), &mut cache);
                // The last row once more by itself: with threads its context is shared among them.
                let last = &fused[(length - 1) * width..];
                out.extend(step(
                    &[(last, length - 1, &pages)],
                    &spec,
                    Some(&rope),
                    &mut cache,
                ));
                out
            })
        });
        assert!(one == three, "the number of threads shows in the result");
        let row = heads.query_width();
        assert_eq!(one[(length - 1) * row..length * row], one[length * row..]);
        let first = length - 30;
        let wanted = reference(&fused, &spec, Some(&rope), first);
        for (got, want) in one[first * row..].iter().zip(wanted) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
        }
    }
}

#[test]
fn a_split_row_is_long_enough_to_be_split() {
    let (length, row) = (2 * tile::SEGMENT + 77, 8 * 32);
    assert!(2 * length * row >= PARALLEL_FROM);
}

/// The plain Rust kernel agrees with the one that this CPU runs.
#[test]
fn the_portable_kernel_agrees() {
    for (query, kv, dim) in [(4, 2, 6), (7, 7, 8), (8, 1, 80)] {
        let heads = Heads { query, kv, dim };
        let spec = AttentionSpec {
            heads,
            scale: 0.7,
            window: Some(45),
            softcap: Some(4.0),
        };
        let length = 100;
        let mut fused = random(9, length * heads.fused_width());
        let pages = [3, 0, 2, 1];
        let mut batch = Batch::default();
        batch.push(&vec![TokenId(0); length], 0, length, &pages, true);
        let mut cache = dirty_cache(heads, 1, 4);
        turn_and_store(&mut fused, &batch, None, heads, 0, &mut cache).unwrap();
        let (tiles, _) = tiles(&fused, &batch, &spec, 0, &cache);
        for (_, tile) in &tiles {
            let rows = tile.tokens() * heads.group();
            let [fast, plain] = [
                tile.attend(tile.segments()),
                tile.attend_by(Portable, tile.segments()),
            ]
            .map(|partial| {
                let mut out = vec![0.0; rows * dim];
                partial.finish(out.chunks_exact_mut(dim));
                out
            });
            for (a, b) in fast.iter().zip(&plain) {
                assert!((a - b).abs() < 2e-6, "{a} {b}");
            }
        }
    }
}

#[test]
fn a_page_without_memory_is_refused() {
    let heads = Heads {
        query: 1,
        kv: 1,
        dim: 2,
    };
    let mut batch = Batch::default();
    batch.push(&[TokenId(0)], 0, 1, &[4], true);
    let mut cache = KvPages::new(1, 1, 2);
    let refused = turn_and_store(&mut [0.0; 6], &batch, None, heads, 0, &mut cache);
    assert!(refused.unwrap_err().to_string().contains("page 4"));
}
