//! Products with quantised weights, by format, shape and tokens, in multiplications a second. The threads are rayon's:
//! `RAYON_NUM_THREADS=2 cargo bench --bench quantised`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use messplus::model::quantised::{Kind, PackedMatrix, multiply_all};

/// Rows and columns of the two matrices of a small model's feed-forward block.
const SHAPES: [(usize, usize); 2] = [(4864, 1024), (1024, 4864)];

fn products(criterion: &mut Criterion) {
    for kind in Kind::ALL {
        let mut group = criterion.benchmark_group(format!("{kind:?}"));
        for (rows, columns) in SHAPES {
            let blocks = blocks(kind, rows * columns / kind.block_columns());
            let Some(matrix) = PackedMatrix::pack(kind, &blocks, rows, columns) else {
                eprintln!("{kind:?}: this processor has no kernel");
                return;
            };
            for tokens in [1, 4, 16, 64, 256] {
                let x: Vec<f32> = (0..tokens * columns)
                    .map(|i| (i % 997) as f32 / 500.0 - 1.0)
                    .collect();
                let mut out = vec![0.0; tokens * rows];
                group.throughput(Throughput::Elements((tokens * rows * columns) as u64));
                let id = BenchmarkId::new(format!("{rows}x{columns}"), tokens);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| multiply_all(&[&matrix], black_box(&x), tokens, &mut out));
                });
            }
        }
        group.finish();
    }
}

/// Blocks of arbitrary bytes whose every `f16` is an ordinary number: the speed does not depend on the weights.
fn blocks(kind: Kind, count: usize) -> Vec<u8> {
    (0..count * kind.block_bytes())
        .map(|i| (i * 31 % 251) as u8 & 0x2f)
        .collect()
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = products
}
criterion_main!(benches);
