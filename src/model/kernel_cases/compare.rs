//! How far a result is from its reference.

/// What an error of a value near zero is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yardstick {
    /// The root mean square of its row: for what is computed value by value, or as one sum of exact products.
    MeanSquare,
    /// The largest value of its row: for attention, whose weights are rounded to half floats before they meet the
    /// values.
    Peak,
}

/// Compares row by row. An error counts relative to the value or, for values near zero among larger ones, to the row's
/// yardstick. Returns the largest.
///
/// # Errors
/// For lengths that differ, a value that is no number where the reference is one, and an error over `tolerance`.
pub fn rows_by(
    yardstick: Yardstick,
    what: &str,
    got: &[f64],
    want: &[f64],
    width: usize,
    tolerance: f64,
) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{what}: {} values instead of {}", got.len(), want.len()));
    }
    let mut worst = 0.0;
    for (row, (got, want)) in got.chunks(width).zip(want.chunks(width)).enumerate() {
        let size = size_of_row(yardstick, want);
        for (column, (&got, &want)) in got.iter().zip(want).enumerate() {
            let place = || format!("{what}: row {row}, column {column} of {width}");
            if got.is_nan() != want.is_nan() {
                return Err(format!("{} is {got}, not {want}", place()));
            }
            if got == want || want.is_nan() {
                continue;
            }
            let error = (got - want).abs() / want.abs().max(size);
            if error.is_nan() || error > tolerance {
                return Err(format!("{} is {got}, not {want}: off by {error:.2e}", place()));
            }
            worst = error.max(worst);
        }
    }
    Ok(worst)
}

fn size_of_row(yardstick: Yardstick, want: &[f64]) -> f64 {
    let written = want.iter().filter(|w| !w.is_nan());
    let size = match yardstick {
        Yardstick::MeanSquare => {
            let squares: Vec<f64> = written.map(|w| w * w).collect();
            (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
        }
        Yardstick::Peak => written.fold(0.0, |peak, w| w.abs().max(peak)),
    };
    size.max(1e-30)
}

/// [`rows_by`] the root mean square.
pub fn rows(what: &str, got: &[f64], want: &[f64], width: usize, tolerance: f64) -> Result<f64, String> {
    rows_by(Yardstick::MeanSquare, what, got, want, width, tolerance)
}

/// # Errors
/// At the first pair that differs.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], want: &[T]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: {} values instead of {}", got.len(), want.len()));
    }
    match got.iter().zip(want).position(|(got, want)| got != want) {
        Some(at) => Err(format!(
            "{what}: number {at} is {:?}, not {:?}",
            got[at], want[at]
        )),
        None => Ok(()),
    }
}
