//! Results as SVG: satisfaction and queue over time, cost against promise, who answered.

mod calls;
mod colours;
mod cost;
mod over_time;

use super::results::{Results, Section};
use super::summary::Row;
use crate::paint::PlotError;

/// All plots of a result: file names and SVG texts.
pub fn draw(results: &Results) -> Result<Vec<(String, String)>, PlotError> {
    let mut plots = vec![];
    let several = |stream: &str| results.sections.iter().filter(|s| s.stream == stream).count() > 1;
    for section in &results.sections {
        let stem = if several(&section.stream) {
            format!("{}-{}", plain(&section.stream), section.alpha)
        } else {
            plain(&section.stream)
        };
        let rows: Vec<&Row> = section.rows.iter().map(|(row, _)| row).collect();
        let title = format!("{}, α = {}", section.stream, section.alpha);
        if let Some(svg) = over_time::draw(section, &title)? {
            plots.push((format!("{stem}-over-time.svg"), svg));
        }
        plots.push((
            format!("{stem}-calls.svg"),
            calls::draw(&rows, &results.models, &title)?,
        ));
        if section.rank == 0 {
            let group: Vec<&Section> = results
                .sections
                .iter()
                .filter(|s| s.stream == section.stream)
                .collect();
            let rows: Vec<Vec<&Row>> = group
                .iter()
                .map(|s| s.rows.iter().map(|(row, _)| row).collect())
                .collect();
            plots.push((
                format!("{}-cost.svg", plain(&section.stream)),
                cost::draw(&rows, &section.stream)?,
            ));
        }
    }
    let streams = results.sections.iter().filter(|s| s.rank == 0).count();
    if streams > 1 {
        let policies = results.sections[0].rows.len();
        let ranks: Vec<Vec<&Row>> = results
            .mean
            .chunks(policies)
            .map(|rank| rank.iter().collect())
            .collect();
        let title = format!("mean of {streams} streams");
        plots.push(("mean-cost.svg".into(), cost::draw(&ranks, &title)?));
        plots.push((
            "mean-calls.svg".into(),
            calls::draw(&ranks[0], &results.models, &title)?,
        ));
    }
    Ok(plots)
}

/// A stream's name as part of a file's name.
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
