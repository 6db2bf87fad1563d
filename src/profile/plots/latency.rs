//! Energy against latency: what a larger batch saves in joules, it takes in time.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::super::record::{Profile, Row};
use super::{colour, models, si};
use crate::paint::{self, FAINT, FONT, PlotError, Sign, TEXT};

/// Mean seconds from sending a request to its last token.
fn seconds(row: &Row) -> f64 {
    let waits = row.cell.output_tokens.saturating_sub(1) as f64;
    (row.time_to_first_token_ms + waits * row.inter_token_ms.unwrap_or_default()) * 1e-3
}

pub fn draw(profile: &Profile) -> Result<String, PlotError> {
    let log = |values: &dyn Fn(&Row) -> f64| {
        let (low, high) = paint::span(profile.rows.iter().map(|r| values(r).max(1e-9).log10()), 0.1);
        10f64.powf(low)..10f64.powf(high)
    };
    let names = models(profile);
    let entries: Vec<_> = names
        .iter()
        .map(|name| ((*name).to_owned(), colour(profile, name), Sign::Line))
        .collect();
    let wide = paint::WIDTH + paint::legend_width(names.iter().copied());
    paint::sheet((wide, 560), |area| {
        let (plot, legend) = area.split_horizontally(paint::WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .caption(
                format!("Energy against latency, meter: {}", profile.meter),
                (FONT, 19),
            )
            .set_label_area_size(LabelAreaPosition::Left, 84)
            .set_label_area_size(LabelAreaPosition::Bottom, 44)
            .build_cartesian_2d(
                log(&seconds).log_scale(),
                log(&|row| row.joules_per_request).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .label_style((FONT, TEXT))
            .axis_desc_style((FONT, TEXT))
            .x_desc("seconds until the last token")
            .y_desc("joules per request")
            .x_label_formatter(&|x| si(*x, "s"))
            .y_label_formatter(&|y| si(*y, "J"))
            .draw()?;
        for rows in lines(profile) {
            let colour = colour(profile, &rows[0].cell.model);
            let points: Vec<_> = rows
                .iter()
                .map(|row| (seconds(row), row.joules_per_request))
                .collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, colour.filled())))?;
            let style = (FONT, 12).into_font().color(&colour);
            let numbers = rows.iter().zip(&points);
            chart.draw_series(numbers.map(|(row, (x, y))| {
                EmptyElement::at((*x, *y)) + Text::new(row.cell.batch.to_string(), (6, -14), style.clone())
            }))?;
        }
        paint::legend(&legend, &entries)?;
        let y = 60 + 22 * entries.len() as i32;
        for (at, line) in ["a line: one prompt and answer", "length; the number is the batch"]
            .iter()
            .enumerate()
        {
            paint::label(&legend, line, (6, y + 18 * at as i32), 12, HPos::Left)?;
        }
        Ok(())
    })
}

/// The rows that differ in batch alone, in rising batch.
fn lines(profile: &Profile) -> Vec<Vec<&Row>> {
    let mut rows: Vec<&Row> = profile.rows.iter().collect();
    let key = |row: &&Row| {
        (
            row.cell.model.clone(),
            row.cell.prompt_tokens,
            row.cell.output_tokens,
        )
    };
    rows.sort_by_key(|row| (key(row), row.cell.batch));
    rows.chunk_by(|a, b| key(a) == key(b))
        .map(<[&Row]>::to_vec)
        .collect()
}
