//! What the accounts cost: one tick of a counter with steps of 64 rows by three models shared out, and the law that
//! learns from it. `cargo bench --bench energy`.

use criterion::{Criterion, criterion_group, criterion_main};
use messplus::energy::Workbench;

const ROWS: u32 = 64;
const MODELS: u16 = 3;

fn energy(criterion: &mut Criterion) {
    let mut bench = Workbench::new(ROWS, MODELS);
    criterion.bench_function("energy/tick", |bencher| bencher.iter(|| bench.tick()));
    let mut bench = Workbench::new(ROWS, MODELS);
    criterion.bench_function("energy/law", |bencher| bencher.iter(|| bench.update_law()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(std::time::Duration::from_secs(2));
    targets = energy
}
criterion_main!(benches);
