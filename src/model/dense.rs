//! Products with dense f32 weights on the CPU, in panels of sixteen output rows.
//!
//! One lane of a register is one output, which adds its products in the order of the inputs. So an output has the
//! same bits for one token as for many, which a general matrix product does not promise: it picks other blockings
//! for other sizes.

use rayon::prelude::*;

use super::quantised::{AlignedBytes, Target};

/// Output rows of a panel: two registers of eight lanes.
const PANEL: usize = 16;

/// Tokens that share one pass over a panel: with two registers each they leave room for the weights.
const TILE: usize = 6;

/// Products of fewer multiplications than this stay on the calling thread: waking another costs more.
const PARALLEL_PRODUCTS: usize = 100_000;

/// Tasks a thread gets, so that one that comes late leaves work for the others to take.
const TASKS_PER_THREAD: usize = 8;

/// A dense matrix `[rows, columns]`, packed: panel by panel, input by input, sixteen rows side by side.
pub struct DenseMatrix {
    rows: usize,
    columns: usize,
    panels: AlignedBytes,
}

impl DenseMatrix {
    /// Packs `weights`, row by row. `None` where the processor lacks AVX2 or FMA, or where there is no memory.
    pub fn pack(weights: &[f32], rows: usize, columns: usize) -> Option<Self> {
        if !has_kernel() || rows == 0 || columns == 0 || weights.len() != rows * columns {
            return None;
        }
        let bytes = rows.div_ceil(PANEL) * PANEL * columns * size_of::<f32>();
        let mut panels = AlignedBytes::zeroed(bytes).ok()?;
        let values: &mut [f32] = bytemuck::cast_slice_mut(&mut panels[..bytes]);
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            let panel = &mut values[row / PANEL * PANEL * columns..][..PANEL * columns];
            for (inputs, weight) in panel.chunks_exact_mut(PANEL).zip(weights) {
                inputs[row % PANEL] = *weight;
            }
        }
        Some(Self {
            rows,
            columns,
            panels,
        })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn bytes(&self) -> usize {
        self.rows.div_ceil(PANEL) * PANEL * self.columns * size_of::<f32>()
    }

    /// One row, `[columns]`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let panel = self.panel(row / PANEL);
        for (out, inputs) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *out = inputs[row % PANEL];
        }
    }

    /// `out[t, n] = Σ_k x[t, k] · w[n, k]`; `x` is `[tokens, columns]`, `out` is `[tokens, rows]`.
    pub fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let tokens = x.len() / self.columns;
        assert_eq!(
            x.len(),
            tokens * self.columns,
            "activations are [tokens, columns]"
        );
        assert_eq!(out.len(), tokens * self.rows, "outputs are [tokens, rows]");
        let target = Target::new(out, self.rows);
        let panels = self.rows.div_ceil(PANEL);
        let threads = rayon::current_num_threads();
        if threads == 1 || tokens * self.rows * self.columns < PARALLEL_PRODUCTS {
            self.run(x, 0..panels, &target);
            return;
        }
        let tasks = panels.min(threads * TASKS_PER_THREAD);
        (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
            self.run(x, task * panels / tasks..(task + 1) * panels / tasks, &target);
        });
    }

    fn panel(&self, index: usize) -> &[f32] {
        let size = PANEL * self.columns;
        &bytemuck::cast_slice(&self.panels[..self.bytes()])[index * size..][..size]
    }

    /// Computes some panels for every token. A panel stays in the cache while the tokens pass by.
    fn run(&self, x: &[f32], panels: std::ops::Range<usize>, target: &Target) {
        let mut sums = [[0.0; PANEL]; TILE];
        for index in panels {
            let panel = self.panel(index);
            let lanes = PANEL.min(self.rows - index * PANEL);
            for (tile, x) in x.chunks(TILE * self.columns).enumerate() {
                let tokens = x.len() / self.columns;
                multiply_tile(panel, x, self.columns, &mut sums);
                for (token, sums) in sums[..tokens].iter().enumerate() {
                    // SAFETY: the output has a row for every token and a place for every lane of a panel, and no two
                    // tasks have a panel in common.
                    unsafe { target.write_all(tile * TILE + token, index * PANEL, &sums[..lanes]) };
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_kernel() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_kernel() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_tile(_: &[f32], _: &[f32], _: usize, _: &mut [[f32; PANEL]; TILE]) {
    unreachable!("no matrix is packed where there is no kernel")
}

/// Up to six tokens with one panel.
#[cfg(target_arch = "x86_64")]
fn multiply_tile(panel: &[f32], x: &[f32], columns: usize, sums: &mut [[f32; PANEL]; TILE]) {
    // SAFETY: a matrix exists only where `has_kernel` found AVX2 and FMA.
    unsafe {
        match x.len() / columns {
            1 => x86::tile::<1>(panel, x, columns, sums),
            2 => x86::tile::<2>(panel, x, columns, sums),
            3 => x86::tile::<3>(panel, x, columns, sums),
            4 => x86::tile::<4>(panel, x, columns, sums),
            5 => x86::tile::<5>(panel, x, columns, sums),
            _ => x86::tile::<6>(panel, x, columns, sums),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{PANEL, TILE};

    /// `T` tokens, each `columns` long, with a panel of as many inputs.
    #[target_feature(enable = "avx2,fma")]
    pub fn tile<const T: usize>(panel: &[f32], x: &[f32], columns: usize, sums: &mut [[f32; PANEL]; TILE]) {
        assert!(panel.len() == columns * PANEL && x.len() == T * columns && T <= TILE);
        let mut totals = [[_mm256_setzero_ps(); 2]; T];
        for k in 0..columns {
            // SAFETY: `panel` holds `PANEL` values for each of `columns` inputs and `x` `columns` for each of `T` tokens.
            unsafe {
                let at = panel.as_ptr().add(k * PANEL);
                let (low, high) = (_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)));
                for (token, total) in totals.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*x.get_unchecked(token * columns + k));
                    total[0] = _mm256_fmadd_ps(low, value, total[0]);
                    total[1] = _mm256_fmadd_ps(high, value, total[1]);
                }
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            // SAFETY: `sums` are sixteen values each.
            unsafe {
                _mm256_storeu_ps(sums.as_mut_ptr(), total[0]);
                _mm256_storeu_ps(sums.as_mut_ptr().add(8), total[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Right to rounding, the same bits for a token alone as among others, and rows come back as they went in.
        #[test]
        fn products_are_right_and_do_not_depend_on_company(
            rows in 1usize..70, columns in 1usize..300, tokens in 1usize..20, seed in 0u64..1000,
        ) {
            let (weights, x) = (random(seed, rows * columns), random(seed + 1, tokens * columns));
            let Some(matrix) = DenseMatrix::pack(&weights, rows, columns) else {
                // Without the kernel there is nothing to test: candle computes then.
                return Ok(());
            };
            let mut out = vec![f32::NAN; tokens * rows];
            matrix.multiply(&x, &mut out);
            let mut alone = vec![f32::NAN; rows];
            let mut back = vec![f32::NAN; columns];
            for (token, out) in out.chunks_exact(rows).enumerate() {
                let x = &x[token * columns..][..columns];
                matrix.multiply(x, &mut alone);
                prop_assert_eq!(&alone, out);
                for (row, out) in out.iter().enumerate() {
                    let weights = &weights[row * columns..][..columns];
                    let want: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    prop_assert!((f64::from(*out) - want).abs() < 1e-6 * columns as f64, "{} {}", out, want);
                }
            }
            for row in 0..rows {
                matrix.row(row, &mut back);
                prop_assert_eq!(&back, &weights[row * columns..][..columns]);
            }
        }
    }
}
