//! Satisfaction so far and the virtual queue, request by request: means over seeds, with bands for the two that
//! matter most.

use plotters::prelude::*;

use super::colours::{colour, rank};
use crate::paint::{self, FAINT, FONT, PlotError, Sign, TEXT};
use crate::replay::results::Section;
use crate::replay::score::Run;
use crate::replay::summary::Band;

/// Those whose band of seeds is drawn.
const BANDS: usize = 2;
/// The first requests swing too far to be shown whole.
const SETTLED: f64 = 0.06;

struct Curve<'a> {
    policy: &'a str,
    satisfaction: Band,
    queue: Band,
}

/// None when no policy of the section learns.
pub fn draw(section: &Section, title: &str) -> Result<Option<String>, PlotError> {
    let learns = |policy: &str| rank(policy) < rank("static-mix");
    fn curve<'a>((policy, runs): (&'a str, &Vec<Run>)) -> Curve<'a> {
        Curve {
            policy,
            satisfaction: Band::of(runs, |p| 100.0 * p.satisfaction),
            queue: Band::of(runs, |p| p.queue),
        }
    }
    let mut curves: Vec<Curve> = section
        .rows
        .iter()
        .map(|(row, runs)| (row.policy.as_str(), runs))
        .filter(|(policy, _)| learns(policy))
        .map(curve)
        .collect();
    curves.sort_by_key(|c| rank(c.policy));
    let Some(requests) = curves
        .iter()
        .filter_map(|c| c.satisfaction.requests.last())
        .max()
        .copied()
    else {
        return Ok(None);
    };
    paint::sheet(
        (
            paint::WIDTH + paint::legend_width(curves.iter().map(|c| c.policy)),
            700,
        ),
        |area| {
            let (plots, legend) = area.split_horizontally(paint::WIDTH);
            let (upper, lower) = plots.split_vertically(420);
            let alpha = 100.0 * section.alpha;
            panel(
                &upper,
                title,
                "satisfied so far, %",
                &curves,
                requests,
                |c| &c.satisfaction,
                Some(alpha),
            )?;
            panel(
                &lower,
                "",
                "virtual queue, requests",
                &curves,
                requests,
                |c| &c.queue,
                None,
            )?;
            let mut entries: Vec<_> = curves
                .iter()
                .map(|c| (c.policy.to_owned(), colour(c.policy), Sign::Line))
                .collect();
            entries.push((format!("α = {}", section.alpha), BLACK, Sign::Dashes));
            let bands: Vec<&str> = curves.iter().take(BANDS).map(|c| c.policy).collect();
            paint::legend(&legend, &entries)?;
            let y = 46 + 22 * entries.len() as i32;
            let note = [
                "line: mean over seeds".to_owned(),
                "band: 10th to 90th percentile,".to_owned(),
                bands.join(" and "),
            ];
            for (at, line) in note.iter().enumerate() {
                paint::label(
                    &legend,
                    line,
                    (6, y + 10 + 18 * at as i32),
                    12,
                    plotters::style::text_anchor::HPos::Left,
                )?;
            }
            Ok(())
        },
    )
    .map(Some)
}

fn panel<'a>(
    area: &paint::Area<'_>,
    title: &str,
    unit: &str,
    curves: &'a [Curve<'a>],
    requests: usize,
    band: impl Fn(&'a Curve<'a>) -> &'a Band,
    alpha: Option<f64>,
) -> Result<(), PlotError> {
    let settled = |band: &'a Band| {
        let late = band
            .requests
            .iter()
            .map(|r| *r as f64 >= SETTLED * requests as f64);
        late.zip(band.low.iter().zip(&band.high).zip(&band.mean))
            .filter(|(late, _)| *late)
            .map(|(_, v)| v)
    };
    // A policy without a queue has no line there.
    let flat = |band: &Band| band.high.iter().all(|v| *v == 0.0) && band.low.iter().all(|v| *v == 0.0);
    let values = curves.iter().enumerate().flat_map(|(at, curve)| {
        settled(band(curve))
            .flat_map(move |((low, high), mean)| if at < BANDS { [*low, *high] } else { [*mean, *mean] })
    });
    let (low, high) = paint::span(values.chain(alpha), 0.06);
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, 64)
        .set_label_area_size(LabelAreaPosition::Bottom, 44);
    if !title.is_empty() {
        builder.caption(title, (FONT, 19));
    }
    let mut chart = builder.build_cartesian_2d(0f64..requests as f64, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .label_style((FONT, TEXT))
        .axis_desc_style((FONT, TEXT))
        .x_desc("requests")
        .y_desc(unit)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    for (at, curve) in curves.iter().enumerate().rev() {
        let (band, colour) = (band(curve), colour(curve.policy));
        if flat(band) {
            continue;
        }
        let x = || band.requests.iter().map(|r| *r as f64);
        let inside = |y: &f64| y.clamp(low, high);
        if at < BANDS {
            let there = x().zip(band.high.iter().map(inside));
            let back = x()
                .zip(band.low.iter().map(inside))
                .collect::<Vec<_>>()
                .into_iter()
                .rev();
            let outline: Vec<_> = there.chain(back).collect();
            chart.draw_series([Polygon::new(outline, colour.mix(0.18))])?;
        }
        let width = if at < BANDS { 3 } else { 2 };
        chart.draw_series(LineSeries::new(
            x().zip(band.mean.iter().map(inside)),
            colour.stroke_width(width),
        ))?;
    }
    if let Some(alpha) = alpha {
        let line = [(0.0, alpha), (requests as f64, alpha)];
        chart.draw_series(DashedLineSeries::new(line, 8, 6, BLACK.stroke_width(2)))?;
    }
    Ok(())
}
