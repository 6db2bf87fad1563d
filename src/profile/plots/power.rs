//! Power over time, with the steps it was spent on below.

use plotters::prelude::*;

use super::super::power::PowerTrace;
use crate::paint::{self, FAINT, FONT, PlotError, Sign, TEXT};
use crate::units::Moment;

const PREFILL: RGBColor = RGBColor(0, 114, 178);
const DECODE: RGBColor = RGBColor(230, 159, 0);
/// Longer traces are cut: a step would be thinner than a line.
const MOST_SECONDS: f64 = 4.0;

/// None when the meter was not seen to move.
pub fn draw(trace: &PowerTrace) -> Result<Option<String>, PlotError> {
    let Some((origin, _)) = trace.counter.first().copied() else {
        return Ok(None);
    };
    let at = |moment: Moment| moment.seconds_since(origin);
    let watts: Vec<(f64, f64, f64)> = trace
        .counter
        .windows(2)
        .map(|w| {
            let seconds = w[1].0.seconds_since(w[0].0).max(1e-9);
            (
                at(w[0].0),
                at(w[1].0),
                (w[1].1.0 - w[0].1.0) as f64 * 1e-6 / seconds,
            )
        })
        .filter(|(from, ..)| *from < MOST_SECONDS)
        .collect();
    let Some((_, end, _)) = watts.last().copied() else {
        return Ok(None);
    };
    let end = end.min(MOST_SECONDS);
    let top = 1.1 * watts.iter().map(|w| w.2).fold(1e-6, f64::max);
    let entries = [
        ("power".to_owned(), BLACK, Sign::Line),
        ("prefill step".to_owned(), PREFILL, Sign::Box),
        ("decode step".to_owned(), DECODE, Sign::Box),
    ];
    let wide = paint::WIDTH + paint::legend_width(entries.iter().map(|e| e.0.as_str()));
    paint::sheet((wide, 420), |area| {
        let (plot, legend) = area.split_horizontally(paint::WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .caption(format!("Power over time: {}", trace.cell), (FONT, 17))
            .set_label_area_size(LabelAreaPosition::Left, 64)
            .set_label_area_size(LabelAreaPosition::Bottom, 44)
            .build_cartesian_2d(0f64..end, -0.1 * top..top)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .label_style((FONT, TEXT))
            .axis_desc_style((FONT, TEXT))
            .x_desc("seconds")
            .y_desc("watts")
            // Below zero the steps are drawn, not a power.
            .y_label_formatter(&|w| {
                if *w < 0.0 {
                    String::new()
                } else {
                    format!("{w:.0}")
                }
            })
            .draw()?;
        for step in trace.steps.iter().filter(|step| at(step.start) < end) {
            let ends = (at(step.start), at(step.end).min(end));
            let colour = if step.prefill_tokens > 0 { PREFILL } else { DECODE };
            let band = [(ends.0, -0.085 * top), (ends.1, -0.02 * top)];
            chart.draw_series([Rectangle::new(band, colour.filled())])?;
            let shadow = [(ends.0, 0.0), (ends.1, top)];
            chart.draw_series([Rectangle::new(shadow, colour.mix(0.10).filled())])?;
        }
        // The counter tells the mean between two of its readings: a staircase, not a curve.
        let stairs = watts
            .iter()
            .flat_map(|(from, to, w)| [(*from, *w), (to.min(end), *w)]);
        chart.draw_series(LineSeries::new(stairs, BLACK.stroke_width(2)))?;
        paint::legend(&legend, &entries)
    })
    .map(Some)
}
