use half::f16;
use proptest::prelude::*;

use super::{
    ActivationKind, Activations, Kind, PackedMatrix, activations, multiply_all,
    oracle::{self, halves},
    supported,
};

/// A small generator: the tests need many bytes, not good ones.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit() * self.unit()).collect()
    }

    fn blocks(&mut self, kind: Kind, rows: usize, columns: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rows * columns / kind.block_columns() {
            let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| self.next() as u8).collect();
            for &at in halves(kind) {
                block[at..at + 2].copy_from_slice(&f16::from_f32(self.unit() * 0.1).to_le_bytes());
            }
            bytes.extend(block);
        }
        bytes
    }
}

fn pack(kind: Kind, blocks: &[u8], rows: usize, columns: usize) -> PackedMatrix {
    PackedMatrix::pack(kind, blocks, rows, columns).unwrap()
}

fn product(matrix: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let x = Activations::quantise(matrix.activations(), x, matrix.columns());
    let mut out = vec![f32::NAN; x.tokens() * matrix.rows()];
    matrix.multiply(&x, &mut out, matrix.rows());
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_come_back_as_ggml_dequantises_them(kind in kinds(), rows in 1_usize..20, blocks in 1_usize..4, seed: u64) {
        prop_assume!(supported());
        let columns = blocks * kind.block_columns();
        let bytes = Noise(seed).blocks(kind, rows, columns);
        let matrix = pack(kind, &bytes, rows, columns);
        for (row, source) in bytes.chunks(blocks * kind.block_bytes()).enumerate() {
            let mut out = vec![f32::NAN; columns];
            matrix.row(row, &mut out);
            let expected: Vec<f32> = source
                .chunks(kind.block_bytes())
                .flat_map(|block| (0..kind.block_columns()).map(|k| oracle::weight(kind, block, k).value()))
                .collect();
            // A zero's sign is nobody's business.
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn products_are_the_oracles(
        kind in kinds(), rows in 1_usize..20, blocks in 1_usize..4, tokens in 1_usize..12, seed: u64,
    ) {
        prop_assume!(supported());
        let columns = blocks * kind.block_columns();
        let mut noise = Noise(seed);
        let bytes = noise.blocks(kind, rows, columns);
        let x = noise.values(tokens * columns);
        let matrix = pack(kind, &bytes, rows, columns);
        let out = product(&matrix, &x);
        for (t, x) in x.chunks(columns).enumerate() {
            let x = oracle::activations(matrix.activations(), x);
            for (n, row) in bytes.chunks(blocks * kind.block_bytes()).enumerate() {
                let (sum, magnitude) = oracle::dot(kind, row, &x);
                let got = f64::from(out[t * rows + n]);
                prop_assert!((got - sum).abs() <= 1e-6 * magnitude + 1e-12, "{kind:?} {t} {n}: {got} for {sum}");
            }
        }
    }

    #[test]
    fn a_token_does_not_depend_on_its_batch(
        kind in kinds(), rows in 1_usize..40, tokens in 1_usize..41, threads in 1_usize..4, seed: u64,
    ) {
        prop_assume!(supported());
        let columns = 512;
        let mut noise = Noise(seed);
        let matrix = pack(kind, &noise.blocks(kind, rows, columns), rows, columns);
        let x = noise.values(tokens * columns);
        let together = pool(threads).install(|| product(&matrix, &x));
        for (x, expected) in x.chunks(columns).zip(together.chunks(rows)) {
            prop_assert_eq!(bits(&product(&matrix, x)), bits(expected));
        }
    }

    #[test]
    fn fast_quantising_is_the_plain_one(seed: u64, scale in -30_i32..30) {
        prop_assume!(supported());
        let x: Vec<f32> = Noise(seed).values(256).iter().map(|v| v * (scale as f32).exp2()).collect();
        for kind in [ActivationKind::Q8_0, ActivationKind::Q8_1, ActivationKind::Q8_K] {
            let fast = Activations::quantise(kind, &x, 256);
            let plain = activations::quantise_plainly(kind, &x, 256);
            prop_assert_eq!(fast, plain);
        }
    }
}

#[test]
fn parts_side_by_side_are_the_parts_alone() {
    if !supported() {
        return;
    }
    // So many tokens that both quantising and multiplying share out their work.
    let (columns, tokens) = (512, 150);
    let mut noise = Noise(11);
    let shapes = [
        (Kind::Q4_K, 64),
        (Kind::Q6_K, 13),
        (Kind::Q8_0, 9),
        (Kind::Q4_1, 21),
    ];
    let parts = shapes.map(|(kind, rows)| pack(kind, &noise.blocks(kind, rows, columns), rows, columns));
    let x = noise.values(tokens * columns);
    let stride = parts.iter().map(PackedMatrix::rows).sum::<usize>();
    let mut out = vec![f32::NAN; tokens * stride];
    pool(3).install(|| multiply_all(&parts.each_ref(), &x, tokens, &mut out));
    let mut offset = 0;
    for part in &parts {
        for (t, x) in x.chunks(columns).enumerate() {
            let beside = &out[t * stride + offset..][..part.rows()];
            assert_eq!(bits(&product(part, x)), bits(beside), "{part:?}, token {t}");
        }
        offset += part.rows();
    }
}

#[test]
fn a_wider_output_keeps_what_is_beside_the_product() {
    if !supported() {
        return;
    }
    let mut noise = Noise(3);
    let matrix = pack(Kind::Q8_0, &noise.blocks(Kind::Q8_0, 5, 64), 5, 64);
    let x = Activations::quantise(matrix.activations(), &noise.values(2 * 64), 64);
    let mut out = vec![7.0; 2 * 9];
    matrix.multiply(&x, &mut out, 9);
    assert!(
        out.chunks(9)
            .all(|row| row[5..].iter().all(|&v| v == 7.0) && row[..5].iter().all(|&v| v != 7.0))
    );
}

/// Greatest weights meet greatest activations: the sums must not leave their integers.
#[test]
fn extremes_do_not_saturate() {
    if !supported() {
        return;
    }
    for kind in Kind::ALL {
        for fill in [0x00, 0x7f, 0x80, 0x81, 0xf0, 0x0f, 0xff] {
            for sign in [1.0_f32, -1.0] {
                let (rows, columns, tokens) = (9, 512, 5);
                let mut block = vec![fill; kind.block_bytes()];
                for &at in halves(kind) {
                    block[at..at + 2].copy_from_slice(&f16::ONE.to_le_bytes());
                }
                let bytes = block.repeat(rows * columns / kind.block_columns());
                let x = vec![sign * 127.0; tokens * columns];
                let matrix = pack(kind, &bytes, rows, columns);
                let quantised = oracle::activations(matrix.activations(), &x[..columns]);
                let (sum, magnitude) = oracle::dot(kind, &bytes[..bytes.len() / rows], &quantised);
                for got in product(&matrix, &x) {
                    let error = (f64::from(got) - sum).abs();
                    assert!(error <= 1e-6 * magnitude, "{kind:?} {fill:#x}: {got} for {sum}");
                }
            }
        }
    }
}

#[test]
fn zeros_give_zero_and_a_broken_activation_shows() {
    if !supported() {
        return;
    }
    for kind in Kind::ALL {
        let matrix = pack(kind, &Noise(5).blocks(kind, 8, 256), 8, 256);
        let mut x = vec![0.0; 256];
        assert!(product(&matrix, &x).iter().all(|&v| v == 0.0), "{kind:?}");
        x[17] = f32::NAN;
        assert!(product(&matrix, &x).iter().all(|v| v.is_nan()), "{kind:?}");
        x[17] = f32::INFINITY;
        assert!(product(&matrix, &x).iter().all(|v| !v.is_finite()), "{kind:?}");
    }
}

#[test]
fn what_has_no_kernel_is_refused() {
    assert!(PackedMatrix::pack(Kind::Q8_0, &[0; 34], 1, 33).is_none());
    assert!(PackedMatrix::pack(Kind::Q4_K, &[0; 144], 1, 128).is_none());
    assert!(PackedMatrix::pack(Kind::Q8_0, &[0; 33], 1, 32).is_none());
    assert!(PackedMatrix::pack(Kind::Q8_0, &[], 0, 32).is_none());
    assert!(PackedMatrix::pack(Kind::Q8_0, &[0; 34], usize::MAX, 64).is_none());
}

#[test]
fn packing_keeps_the_weights_size() {
    if !supported() {
        return;
    }
    for kind in Kind::ALL {
        let bytes = Noise(1).blocks(kind, 64, 1024);
        assert_eq!(pack(kind, &bytes, 64, 1024).bytes(), bytes.len());
    }
}
