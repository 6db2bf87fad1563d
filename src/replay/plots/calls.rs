//! Who answered: the share of answers shown by each model, a bar a policy.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::paint::{self, PlotError, Sign, TEXT};
use crate::replay::summary::Row;

const BAR: i32 = 22;
const GAP: i32 = 8;
const LEFT: i32 = 190;
const TOP: i32 = 48;

pub fn draw(rows: &[&Row], models: &[String], title: &str) -> Result<String, PlotError> {
    let rows: Vec<&&Row> = rows
        .iter()
        .filter(|row| !row.policy.starts_with("fixed:"))
        .collect();
    let height = TOP + (BAR + GAP) * rows.len() as i32 + 40;
    let least = 70 + 22 * models.len() as i32;
    let wide = paint::WIDTH + paint::legend_width(models.iter().map(String::as_str));
    paint::sheet((wide, height.max(least) as u32), |area| {
        let (plot, legend) = area.split_horizontally(paint::WIDTH);
        let width = paint::WIDTH as i32 - LEFT - 30;
        paint::label(
            &plot,
            &format!("{title}: answers shown by each model"),
            (LEFT, 22),
            19,
            HPos::Left,
        )?;
        for (at, row) in rows.iter().enumerate() {
            let y = TOP + (BAR + GAP) * at as i32;
            paint::label(&plot, &row.policy, (LEFT - 10, y + BAR / 2), TEXT, HPos::Right)?;
            let mut from = 0.0;
            for (model, share) in row.calls.iter().enumerate() {
                let ends = [from, from + share].map(|s| LEFT + (f64::from(width) * s).round() as i32);
                from += share;
                let shade = paint::shade(model, models.len());
                plot.draw(&Rectangle::new(
                    [(ends[0], y), (ends[1], y + BAR)],
                    shade.filled(),
                ))?;
                if *share >= 0.06 {
                    let RGBColor(r, g, b) = shade;
                    // Luminance decides whether black or white is read.
                    let dark = 0.3 * f64::from(r) + 0.59 * f64::from(g) + 0.11 * f64::from(b) < 140.0;
                    let ink = if dark { WHITE } else { BLACK };
                    paint::ink(
                        &plot,
                        &format!("{:.0}", 100.0 * share),
                        ((ends[0] + ends[1]) / 2, y + BAR / 2),
                        13,
                        ink,
                    )?;
                }
            }
        }
        let base = TOP + (BAR + GAP) * rows.len() as i32;
        for tenth in (0..=10).step_by(2) {
            let x = LEFT + width * tenth / 10;
            plot.draw(&PathElement::new([(x, base - 2), (x, base + 4)], BLACK))?;
            paint::label(
                &plot,
                &format!("{} %", 10 * tenth),
                (x, base + 16),
                13,
                HPos::Center,
            )?;
        }
        let entries: Vec<_> = models
            .iter()
            .enumerate()
            .map(|(m, name)| (name.clone(), paint::shade(m, models.len()), Sign::Box))
            .collect();
        paint::legend(&legend, &entries)
    })
}
