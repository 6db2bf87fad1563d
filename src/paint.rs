//! What all plots share: sheets, sizes, labels, legends. A leaf: it knows no other module.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Why a plot could not be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a plot cannot be drawn ({0})")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Width of what is left of the legend.
pub const WIDTH: u32 = 770;
pub const FONT: &str = "sans-serif";
pub const TEXT: u32 = 14;
pub const FAINT: RGBColor = RGBColor(225, 225, 225);

/// Colours of Okabe and Ito, told apart by colour-blind eyes too.
pub const OKABE_ITO: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(70, 70, 70),
];

/// Viridis at equal steps.
const VIRIDIS: [[f64; 3]; 5] = [
    [68.0, 1.0, 84.0],
    [59.0, 82.0, 139.0],
    [33.0, 145.0, 140.0],
    [94.0, 201.0, 98.0],
    [253.0, 231.0, 37.0],
];

/// The shade of the n-th of so many models, from the cheapest (light) to the dearest (dark).
pub fn shade(place: usize, of: usize) -> RGBColor {
    let share = 1.0 - place as f64 / of.saturating_sub(1).max(1) as f64;
    let at = share * (VIRIDIS.len() - 1) as f64;
    let below = (at as usize).min(VIRIDIS.len() - 2);
    let mix = |c: usize| {
        (VIRIDIS[below][c] + (at - below as f64) * (VIRIDIS[below + 1][c] - VIRIDIS[below][c])) as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

/// Draws on a white sheet and gives the SVG text.
pub fn sheet(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

/// A short text in the middle of something coloured.
pub fn ink(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, ink: RGBColor) -> Result<(), PlotError> {
    let style = (FONT, size)
        .into_font()
        .color(&ink)
        .pos(Pos::new(HPos::Center, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

pub fn label(area: &Area<'_>, text: &str, at: (i32, i32), size: u32, anchor: HPos) -> Result<(), PlotError> {
    let style = (FONT, size)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

/// How an entry looks in a legend.
#[derive(Clone, Copy)]
pub enum Sign {
    Line,
    Dashes,
    Dot,
    Triangle,
    Box,
}

/// Width that a legend of these entries needs.
pub fn legend_width<'a>(entries: impl Iterator<Item = &'a str>) -> u32 {
    let longest = entries.map(|name| name.chars().count()).max().unwrap_or(0) as u32;
    (52 + 8 * longest).max(230)
}

/// A column of entries.
pub fn legend(area: &Area<'_>, entries: &[(String, RGBColor, Sign)]) -> Result<(), PlotError> {
    for (at, (name, colour, sign)) in entries.iter().enumerate() {
        let y = 46 + 22 * at as i32;
        let style = colour.stroke_width(3);
        match sign {
            Sign::Line => area.draw(&PathElement::new([(6, y), (30, y)], style))?,
            Sign::Dashes => {
                for x in [6, 15, 24] {
                    area.draw(&PathElement::new([(x, y), (x + 5, y)], style))?;
                }
            }
            Sign::Dot => area.draw(&Circle::new((18, y), 6, colour.filled()))?,
            Sign::Triangle => area.draw(&TriangleMarker::new((18, y), 7, colour.filled()))?,
            Sign::Box => area.draw(&Rectangle::new([(8, y - 7), (28, y + 7)], colour.filled()))?,
        }
        label(area, name, (38, y), TEXT, HPos::Left)?;
    }
    Ok(())
}

/// The widest range that values take, with a margin on both sides.
pub fn span(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * margin).max(1e-9 + 1e-3 * high.abs());
    (low - room, high + room)
}
