//! Joules per token against batch size.

use plotters::prelude::*;

use super::super::record::{Profile, Row};
use super::panels::{Chart, Panels, line_with_bars, place};
use crate::paint::PlotError;

pub fn draw(profile: &Profile) -> Result<String, PlotError> {
    Panels {
        title: &format!("Energy per token by batch size, meter: {}", profile.meter),
        quantity: "joules per token",
        values: &|row| vec![row.joules_per_token()],
        line: &line,
        signs: &[],
    }
    .draw(profile)
}

fn line(chart: &mut Chart, rows: &[&Row], colour: RGBColor) -> Result<(), PlotError> {
    let points: Vec<_> = rows
        .iter()
        .map(|row| {
            let share = row.half_width("joules_per_request") / row.joules_per_request.max(1e-12);
            let mean = row.joules_per_token();
            (place(row.cell.batch), mean, share * mean)
        })
        .collect();
    line_with_bars(chart, &points, colour)?;
    let dots = points
        .iter()
        .map(|(x, y, _)| Circle::new((*x, *y), 4, colour.filled()));
    chart.draw_series(dots)?;
    Ok(())
}
