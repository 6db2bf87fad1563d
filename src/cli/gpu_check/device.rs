//! What the device and the decoder on it reach, one model at a time.

use super::row::{Row, Verdict};
use super::scale::Scale;
use crate::engine::sampling_cases;
use crate::model::{GpuBench, HalfKind, KernelCheck, ModelError, Roofline, Run, check_kernels, kernel_cases};

/// Every kernel against its reference.
pub fn kernels(bench: &GpuBench, scale: &Scale) -> Vec<Row> {
    let families: Vec<_> = kernel_cases::FAMILIES
        .into_iter()
        .chain(sampling_cases::FAMILIES)
        .collect();
    let checks = check_kernels(
        bench,
        &families,
        scale.cases,
        scale.large_cases,
        scale.kernel_time,
    );
    let row = |check: KernelCheck| {
        let what = format!("kernel {}", check.family);
        let found = match &check.failure {
            Some(failure) => failure.clone(),
            None => format!("{} cases, largest error {:.1e}", check.cases, check.largest_error),
        };
        let verdict = match (&check.failure, check.cases) {
            (Some(_), _) => Verdict::Failed,
            (None, 0) => Verdict::Cut,
            (None, _) => Verdict::Passed,
        };
        Row::new(&what, found, "f16 ≤ 2e-3, bf16 ≤ 1e-2", verdict)
            .with("cases", check.cases)
            .with("largest_error", check.largest_error)
    };
    checks.into_iter().map(row).collect()
}

/// The rates that everything else is compared with.
pub fn roofline(bench: &GpuBench, scale: &Scale) -> Result<(Roofline, Vec<Row>), ModelError> {
    let roofline = bench.roofline(scale.copy_bytes, scale.matrix, scale.roofline_time)?;
    let rows = vec![
        Row::told(
            "copy within the device",
            format!("{:.0} GB/s read and written", roofline.bytes_per_second / 1e9),
        )
        .with("bytes_per_second", roofline.bytes_per_second),
        Row::told(
            "product of bf16 matrices",
            format!("{:.0} TFLOP/s", roofline.operations_per_second / 1e12),
        )
        .with("operations_per_second", roofline.operations_per_second),
    ];
    Ok((roofline, rows))
}

/// Rows keep their bits in company, in both half floats.
pub fn invariance(bench: &GpuBench, scale: &Scale) -> Result<Vec<Row>, ModelError> {
    let mut rows = Vec::new();
    for half in [HalfKind::Bf16, HalfKind::F16] {
        let mut subject = bench.decoder(scale.small, half, scale.company, 128, 64)?;
        let (found, verdict) = match subject.keeps_its_bits(scale.company, 8)? {
            Ok(()) => ("the same bits".to_owned(), Verdict::Passed),
            Err(difference) => (difference, Verdict::Failed),
        };
        let what = format!(
            "a row alone and among {}, {}, {}",
            scale.company,
            scale.small.name,
            half.name()
        );
        rows.push(Row::new(&what, found, "equal bits", verdict));
    }
    Ok(rows)
}

/// The decoder of the middle shape: one stream, many streams, a long prompt.
pub fn decoder(bench: &GpuBench, scale: &Scale, roofline: &Roofline) -> Result<Vec<Row>, ModelError> {
    let name = scale.middle.name;
    let many = scale.streams;
    let mut subject = bench.decoder(
        scale.middle,
        HalfKind::Bf16,
        many,
        scale.context,
        scale.step_tokens,
    )?;
    let mut rows = Vec::new();

    subject.prefill(0, scale.short)?;
    let one = subject.decode(1, scale.short, scale.steps)?;
    let share = one.bytes_per_step / roofline.bytes_per_second / one.seconds_per_step;
    rows.push(
        run(
            Row::at_least(
                &format!("decode, one stream, {name} bf16"),
                share,
                0.85,
                "the bandwidth",
                &tokens(&one),
            ),
            &one,
        )
        .with("key", "decode_1"),
    );
    let micros = 1e6 * one.host_seconds_per_step;
    rows.push(
        Row::new(
            "host time of a decode step",
            format!("{micros:.0} µs"),
            "≤ 60 µs",
            Verdict::of(micros <= 60.0),
        )
        .with("microseconds", micros),
    );

    for row in 0..many {
        subject.prefill(row, scale.long_context)?;
    }
    let batch = subject.decode(many, scale.long_context, scale.steps)?;
    rows.push(
        run(
            Row::at_least(
                &format!("decode, {many} streams, context {}", scale.long_context),
                batch.share_of(roofline),
                0.7,
                "the roofline",
                &tokens(&batch),
            ),
            &batch,
        )
        .with("key", "decode_64"),
    );
    drop(subject);

    let mut subject = bench.decoder(scale.middle, HalfKind::Bf16, 1, scale.prompt, scale.step_tokens)?;
    subject.prefill(0, scale.prompt)?;
    let prefill = subject.prefill(0, scale.prompt)?;
    let share = prefill.operations_per_step / roofline.operations_per_second / prefill.seconds_per_step;
    rows.push(run(
        Row::at_least(
            &format!("prefill, {} tokens", scale.prompt),
            share,
            0.6,
            "the matrix rate",
            &tokens(&prefill),
        ),
        &prefill,
    ));
    Ok(rows)
}

fn tokens(run: &Run) -> String {
    format!(
        "{:.1} tokens/s, {:.2} ms a step",
        run.tokens_per_second,
        1e3 * run.seconds_per_step
    )
}

fn run(row: Row, run: &Run) -> Row {
    row.with("tokens_per_second", run.tokens_per_second)
        .with("seconds_per_step", run.seconds_per_step)
        .with("host_seconds_per_step", run.host_seconds_per_step)
        .with("bytes_per_step", run.bytes_per_step)
        .with("operations_per_step", run.operations_per_step)
}
