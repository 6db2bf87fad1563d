//! A run as SVG: joules by token and batch, prefill beside decode, power over time, energy against latency.

mod latency;
mod panels;
mod power;
mod prefill_decode;
mod tokens;

use plotters::style::RGBColor;

use super::power::PowerTrace;
use super::record::Profile;
use crate::paint::{OKABE_ITO, PlotError};

/// A drawn plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Of the file, without `.svg`.
    pub name: String,
    /// What there is to see, for people who cannot see it too.
    pub caption: String,
    pub svg: String,
}

/// All plots of a run.
pub fn draw(profile: &Profile, traces: &[PowerTrace]) -> Result<Vec<Plot>, PlotError> {
    let mut plots = Vec::new();
    if !profile.rows.is_empty() {
        plots.push(Plot {
            name: "joules-per-token".to_owned(),
            caption: "Joules per token (prompt and answer together) against batch size, by model. Bars: 95 % interval."
                .to_owned(),
            svg: tokens::draw(profile)?,
        });
        plots.push(Plot {
            name: "prefill-decode".to_owned(),
            caption:
                "Joules of one prompt token (triangle) and of one generated token (dot) against batch size."
                    .to_owned(),
            svg: prefill_decode::draw(profile)?,
        });
        plots.push(Plot {
            name: "energy-latency".to_owned(),
            caption:
                "Joules of a request against the time until its last token; along a line the batch grows."
                    .to_owned(),
            svg: latency::draw(profile)?,
        });
    }
    for trace in traces {
        if let Some(svg) = power::draw(trace)? {
            plots.push(Plot {
                name: format!("power-{}", plain(&trace.cell.model)),
                caption: format!(
                    "Power of the device over one repeat of {}, and the steps it was spent on.",
                    trace.cell
                ),
                svg,
            });
        }
    }
    Ok(plots)
}

/// A model's colour, the same in every plot: by its first row.
fn colour(profile: &Profile, model: &str) -> RGBColor {
    let place = models(profile).iter().position(|name| *name == model);
    OKABE_ITO[place.unwrap_or_default() % OKABE_ITO.len()]
}

/// The measured models in order.
fn models(profile: &Profile) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &profile.rows {
        if !names.contains(&row.cell.model.as_str()) {
            names.push(&row.cell.model);
        }
    }
    names
}

/// A quantity with a prefix a person can read: `1.2 mJ`.
fn si(value: f64, unit: &str) -> String {
    let (scale, prefix) = match value.abs() {
        v if v >= 1e3 => (1e-3, "k"),
        v if v >= 1.0 || v == 0.0 => (1.0, ""),
        v if v >= 1e-3 => (1e3, "m"),
        v if v >= 1e-6 => (1e6, "µ"),
        _ => (1e9, "n"),
    };
    // Rounded to three figures, and no zeros behind.
    let scaled = value * scale;
    let digits = if scaled.abs() >= 100.0 {
        0
    } else if scaled.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} {prefix}{unit}")
}

/// A model's name as part of a file's name.
fn plain(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '.' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        for (value, text) in [
            (0.0012, "1.2 mJ"),
            (0.0, "0 J"),
            (12.5, "12.5 J"),
            (3000.0, "3 kJ"),
            (0.000_25, "250 µJ"),
            (100.0, "100 J"),
        ] {
            assert_eq!(si(value, "J"), text);
        }
    }
}
