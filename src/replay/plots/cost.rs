//! Cost: against the promise where a stream was played under several, else against the satisfaction reached.

use plotters::prelude::*;

use super::colours::{colour, rank};
use crate::paint::{self, FAINT, FONT, PlotError, Sign, TEXT};
use crate::replay::summary::Row;

/// `ranks`: per promise the rows of all policies, in the same order.
pub fn draw(ranks: &[Vec<&Row>], title: &str) -> Result<String, PlotError> {
    let several = ranks.len() > 1;
    let places = 0..ranks[0].len();
    let x = |row: &Row| {
        if several {
            row.alpha
        } else {
            100.0 * row.satisfaction.mean
        }
    };
    let of = |place: usize| ranks.iter().map(move |rows| rows[place]);
    let all = || places.clone().flat_map(of);
    let (left, right) = paint::span(
        all().map(x).chain((!several).then(|| 100.0 * ranks[0][0].alpha)),
        0.06,
    );
    // A decade has two or three marks: even a narrow range shows some.
    let (low, high) = paint::span(all().map(|row| row.cost_mj.mean.max(1e-12).log10()), 0.08);
    let mut order: Vec<usize> = places.clone().collect();
    order.sort_by_key(|place| rank(&ranks[0][*place].policy));
    let width = paint::WIDTH + paint::legend_width(ranks[0].iter().map(|row| row.policy.as_str()));
    let height = (60 + 22 * ranks[0].len() as u32).max(560);
    paint::sheet((width, height), |area| {
        let (plot, legend) = area.split_horizontally(paint::WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .caption(format!("{title}: cost, exploration billed"), (FONT, 19))
            .set_label_area_size(LabelAreaPosition::Left, 72)
            .set_label_area_size(LabelAreaPosition::Bottom, 44)
            .build_cartesian_2d(left..right, (10f64.powf(low)..10f64.powf(high)).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .label_style((FONT, TEXT))
            .axis_desc_style((FONT, TEXT))
            .x_desc(if several {
                "promised share α"
            } else {
                "satisfied, %"
            })
            .y_desc("MJ a run")
            .x_label_formatter(&|x| {
                if several {
                    format!("{x:.2}")
                } else {
                    format!("{x:.0}")
                }
            })
            .y_label_formatter(&|y| figures(*y))
            .draw()?;
        if !several {
            let alpha = 100.0 * ranks[0][0].alpha;
            let line = [(alpha, 10f64.powf(low)), (alpha, 10f64.powf(high))];
            chart.draw_series(DashedLineSeries::new(line, 8, 6, BLACK.mix(0.6).stroke_width(1)))?;
        }
        let mut entries = vec![];
        let singles = order
            .iter()
            .filter(|p| ranks[0][**p].policy.starts_with("fixed:"))
            .count();
        let mut single = 0;
        for place in order.iter().rev() {
            let policy = ranks[0][*place].policy.as_str();
            let points: Vec<(f64, f64)> = of(*place).map(|row| (x(row), row.cost_mj.mean)).collect();
            let fixed = policy.strip_prefix("fixed:");
            let learns = rank(policy) < rank("static-mix");
            let (shown, sign) = match fixed {
                Some(_) => (paint::shade(singles - 1 - single, singles), Sign::Box),
                None => (colour(policy), if learns { Sign::Dot } else { Sign::Triangle }),
            };
            single += usize::from(fixed.is_some());
            if several {
                let width = if learns { 3 } else { 1 };
                let style = shown.stroke_width(width);
                match learns {
                    true => chart
                        .draw_series(LineSeries::new(points.iter().copied(), style))
                        .map(|_| ())?,
                    false => chart
                        .draw_series(DashedLineSeries::new(points.iter().copied(), 5, 4, style))
                        .map(|_| ())?,
                }
            }
            for point in points {
                match sign {
                    Sign::Dot => chart
                        .draw_series([Circle::new(point, 6, shown.filled())])
                        .map(|_| ())?,
                    Sign::Box => chart
                        .draw_series([
                            EmptyElement::at(point) + Rectangle::new([(-5, -5), (5, 5)], shown.filled())
                        ])
                        .map(|_| ())?,
                    _ => chart
                        .draw_series([TriangleMarker::new(point, 7, shown.filled())])
                        .map(|_| ())?,
                }
            }
            entries.push((policy.to_owned(), shown, sign));
        }
        entries.reverse();
        paint::legend(&legend, &entries)
    })
}

/// Three figures, without a tail of noughts.
fn figures(value: f64) -> String {
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
