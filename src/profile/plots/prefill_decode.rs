//! What a prompt's token costs beside what a generated one costs.

use plotters::prelude::*;

use super::super::record::{Profile, Row};
use super::panels::{Chart, Panels, line_with_bars, place};
use crate::paint::{PlotError, Sign};

pub fn draw(profile: &Profile) -> Result<String, PlotError> {
    Panels {
        title: &format!("Prefill and decode, meter: {}", profile.meter),
        quantity: "joules per token",
        values: &|row| {
            let decode = row.decode_joules_per_token;
            decode.into_iter().chain([row.prefill_joules_per_token]).collect()
        },
        line: &line,
        signs: &[("decode", Sign::Dot), ("prefill", Sign::Triangle)],
    }
    .draw(profile)
}

fn line(chart: &mut Chart, rows: &[&Row], colour: RGBColor) -> Result<(), PlotError> {
    let prefill: Vec<_> = rows
        .iter()
        .map(|row| {
            let half = row.half_width("prefill_joules_per_token");
            (place(row.cell.batch), row.prefill_joules_per_token, half)
        })
        // An estimate of nothing has no place on a logarithmic axis.
        .filter(|(_, mean, _)| *mean > 0.0)
        .collect();
    let decode: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let half = row.half_width("decode_joules_per_token");
            Some((place(row.cell.batch), row.decode_joules_per_token?, half))
        })
        .filter(|(_, mean, _)| *mean > 0.0)
        .collect();
    line_with_bars(chart, &prefill, colour)?;
    line_with_bars(chart, &decode, colour)?;
    let triangles = prefill
        .iter()
        .map(|(x, y, _)| TriangleMarker::new((*x, *y), 6, colour.filled()));
    chart.draw_series(triangles)?;
    let dots = decode
        .iter()
        .map(|(x, y, _)| Circle::new((*x, *y), 5, colour.filled()));
    chart.draw_series(dots)?;
    Ok(())
}
