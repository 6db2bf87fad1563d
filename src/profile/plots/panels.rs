//! Plots of some quantity against batch size: a panel for each prompt and answer length, a line for each model.

use plotters::coord::combinators::{IntoLogRange, LogCoord};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::super::record::{Profile, Row};
use super::{colour, models, si};
use crate::paint::{self, Area, FAINT, FONT, PlotError, Sign, TEXT};

pub type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, LogCoord<f64>>>;

const PANEL: (u32, u32) = (440, 360);
/// Panels beside each other at most.
const COLUMNS: usize = 2;

/// A plot of panels.
pub struct Panels<'a> {
    pub title: &'a str,
    /// Of the vertical axis, in joules.
    pub quantity: &'a str,
    /// The values of a row, which decide the vertical range.
    pub values: &'a dyn Fn(&Row) -> Vec<f64>,
    /// Draws the rows of one model, in rising batch.
    pub line: &'a LineFn,
    /// Of all models but their colours.
    pub signs: &'a [(&'a str, Sign)],
}

type LineFn = dyn for<'a, 'b> Fn(&mut Chart<'a, 'b>, &[&Row], RGBColor) -> Result<(), PlotError>;

/// Where a batch size stands on the horizontal axis.
pub fn place(batch: usize) -> f64 {
    (batch as f64).log2()
}

impl Panels<'_> {
    pub fn draw(&self, profile: &Profile) -> Result<String, PlotError> {
        let lengths = lengths(profile);
        let columns = lengths.len().clamp(1, COLUMNS);
        let lines = lengths.len().div_ceil(columns).max(1);
        let names = models(profile);
        let entries: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), colour(profile, name), Sign::Line))
            .chain(
                self.signs
                    .iter()
                    .map(|(name, sign)| ((*name).to_owned(), BLACK, *sign)),
            )
            .collect();
        let legend_wide = paint::legend_width(entries.iter().map(|(name, ..)| name.as_str()));
        let wide = PANEL.0 * columns as u32;
        let high = (PANEL.1 * lines as u32 + 40).max(60 + 22 * entries.len() as u32);
        let of = |row: &Row| {
            (self.values)(row)
                .into_iter()
                .filter(|v| *v > 0.0)
                .map(f64::log10)
        };
        let (low, top) = paint::span(profile.rows.iter().flat_map(of), 0.08);
        let range = 10f64.powf(low)..10f64.powf(top);
        let batches = profile.rows.iter().map(|row| place(row.cell.batch));
        let (left, right) = paint::span(batches, 0.08);
        paint::sheet((wide + legend_wide, high), |area| {
            let (plots, legend) = area.split_horizontally(wide);
            let (head, body) = plots.split_vertically(40);
            paint::label(
                &head,
                self.title,
                (16, 22),
                19,
                plotters::style::text_anchor::HPos::Left,
            )?;
            for (panel, (prompt, output)) in body.split_evenly((lines, columns)).iter().zip(&lengths) {
                let rows = |name: &str| -> Vec<&Row> {
                    let here = |row: &&Row| {
                        (row.cell.prompt_tokens, row.cell.output_tokens) == (*prompt, *output)
                            && row.cell.model == name
                    };
                    let mut rows: Vec<&Row> = profile.rows.iter().filter(here).collect();
                    rows.sort_by_key(|row| row.cell.batch);
                    rows
                };
                let mut chart = self.axes(
                    panel,
                    &format!("prompt {prompt}, answer {output} tokens"),
                    left.min(-0.1)..right.max(0.5),
                    range.clone(),
                )?;
                for name in &names {
                    (self.line)(&mut chart, &rows(name), colour(profile, name))?;
                }
            }
            paint::legend(&legend, &entries)
        })
    }

    fn axes<'a, 'b>(
        &self,
        panel: &'a Area<'b>,
        title: &str,
        x: std::ops::Range<f64>,
        y: std::ops::Range<f64>,
    ) -> Result<Chart<'a, 'b>, PlotError> {
        let mut chart = ChartBuilder::on(panel)
            .margin(10)
            .caption(title, (FONT, 15))
            .set_label_area_size(LabelAreaPosition::Left, 84)
            .set_label_area_size(LabelAreaPosition::Bottom, 42)
            .build_cartesian_2d(x, y.log_scale())?;
        // Only powers of two are marked; a label between them would claim a batch that was not run.
        let power = |x: &f64| {
            let whole = (x - x.round()).abs() < 1e-6 && *x > -0.5;
            if whole {
                format!("{}", 2f64.powf(x.round()))
            } else {
                String::new()
            }
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .label_style((FONT, TEXT))
            .axis_desc_style((FONT, TEXT))
            .x_desc("batch, requests at a time")
            .y_desc(self.quantity)
            .x_label_formatter(&power)
            .y_label_formatter(&|y| {
                // Nine labels a decade would run into each other.
                let lead = y / 10f64.powf((y.log10() + 1e-9).floor());
                let marked = [1.0, 2.0, 5.0].iter().any(|m| (lead - m).abs() < 1e-6);
                if marked { si(*y, "J") } else { String::new() }
            })
            .draw()?;
        Ok(chart)
    }
}

/// The pairs of prompt and answer length, short before long.
fn lengths(profile: &Profile) -> Vec<(usize, usize)> {
    let pairs = profile
        .rows
        .iter()
        .map(|row| (row.cell.prompt_tokens, row.cell.output_tokens));
    pairs
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// A line through means with half of their intervals above and below: batch place, mean, half.
pub fn line_with_bars(
    chart: &mut Chart,
    points: &[(f64, f64, f64)],
    colour: RGBColor,
) -> Result<(), PlotError> {
    let means = points.iter().map(|(x, y, _)| (*x, *y));
    chart.draw_series(LineSeries::new(means, colour.stroke_width(2)))?;
    for (x, y, half) in points {
        // A logarithmic axis has no zero for a bar to reach.
        let ends = [(*x, (y - half).max(0.05 * y)), (*x, y + half)];
        chart.draw_series([PathElement::new(ends, colour.stroke_width(2))])?;
    }
    Ok(())
}
