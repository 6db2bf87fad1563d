//! `report.html`: the whole run on one page that opens without a network.

use std::fmt::Write;

use super::baseline::Change;
use super::plots::Plot;
use super::record::{Profile, Row};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c1c;--faint:#666;--line:#ddd;--sheet:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--faint:#a0a0a0;--line:#3a3a3a;--sheet:#161616}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--sheet);max-width:1180px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p,figcaption{color:var(--faint)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right}th:first-child,td:first-child{text-align:left}\
.half{color:var(--faint);font-size:.85em}figure{margin:1rem 0}figure svg{background:#fff;max-width:100%;height:auto;border-radius:6px}";

/// The page. `plots` are put into it whole, so that it needs no other file.
pub fn page(profile: &Profile, plots: &[Plot], changes: Option<&[Change]>) -> String {
    let mut body = String::new();
    let head = format!(
        "<h1>Energy profile</h1><p>Meter: <b>{}</b> ({}). Idle {:.1} W, {}. messplus {}.</p>",
        text(&profile.meter),
        text(&profile.meters.join("; ")),
        profile.idle_watts(),
        match profile.idle_policy.as_str() {
            "shared" => "shared out to the requests below",
            _ => "booked apart: the joules below are above idle",
        },
        text(&profile.version),
    );
    body.push_str(&head);
    if profile.meter == "modelled" {
        body.push_str(
            "<p>No meter was at hand: these joules are declared watts times measured time. They compare settings on this \
             machine and say nothing of a power bill.</p>",
        );
    }
    section(&mut body, "Settings", &rows(profile));
    if let Some(changes) = changes {
        section(&mut body, "Beside the earlier run", &beside(changes));
    }
    for plot in plots {
        // Inside HTML an SVG needs no XML prologue.
        let svg = plot.svg.find("<svg").map_or("", |at| &plot.svg[at..]);
        let caption = text(&plot.caption);
        // A view box lets a narrow screen shrink it.
        let _ = write!(body, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
    }
    section(&mut body, "Idle power", &idle(profile));
    if !profile.skipped.is_empty() {
        section(&mut body, "Left out", &skipped(profile));
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>Energy profile</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )
}

fn section(body: &mut String, title: &str, table: &str) {
    body.push_str("<h2>");
    body.push_str(title);
    body.push_str("</h2><div class=\"wide\">");
    body.push_str(table);
    body.push_str("</div>");
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let body: String = rows.map(|row| cells("td", &mut row.into_iter())).collect();
    let head = cells("th", &mut head.iter().map(|h| (*h).to_owned()));
    format!("<table><thead>{head}</thead><tbody>{body}</tbody></table>")
}

fn rows(profile: &Profile) -> String {
    let head = [
        "model",
        "batch",
        "prompt",
        "answer",
        "repeats",
        "J/request",
        "prefill mJ/token",
        "decode mJ/token",
        "W",
        "tokens/s",
        "first token ms",
        "token ms",
    ];
    let line = |row: &Row| {
        let with = |name: &str, value: Option<f64>, scale: f64| {
            value.map_or_else(
                || "–".to_owned(),
                |v| {
                    let half = figures(row.half_width(name) * scale);
                    format!("{} <span class=\"half\">± {half}</span>", figures(v * scale))
                },
            )
        };
        let [joules, prefill, decode, watts, speed, first, between] = row.quantities();
        vec![
            text(&row.cell.model),
            row.cell.batch.to_string(),
            row.cell.prompt_tokens.to_string(),
            row.cell.output_tokens.to_string(),
            row.repeats.to_string(),
            with("joules_per_request", joules, 1.0),
            with("prefill_joules_per_token", prefill, 1e3),
            with("decode_joules_per_token", decode, 1e3),
            with("watts", watts, 1.0),
            with("tokens_per_second", speed, 1.0),
            with("time_to_first_token_ms", first, 1.0),
            with("inter_token_ms", between, 1.0),
        ]
    };
    table(&head, profile.rows.iter().map(line))
}

fn beside(changes: &[Change]) -> String {
    let head = ["setting", "joules, now/then", "tokens/s, now/then", ""];
    table(
        &head,
        changes.iter().map(|change| {
            vec![
                text(&change.cell.to_string()),
                format!(
                    "{:.3} <span class=\"half\">± {:.3}</span>",
                    change.joules_ratio, change.joules_ratio_ci95
                ),
                format!("{:.3}", change.tokens_per_second_ratio),
                if change.is_real() {
                    "differs"
                } else {
                    "within the intervals"
                }
                .to_owned(),
            ]
        }),
    )
}

fn idle(profile: &Profile) -> String {
    let line = |idle: &super::record::Idle| {
        vec![
            text(&idle.model),
            figures(idle.before_watts.0),
            figures(idle.after_watts.0),
        ]
    };
    table(
        &["around the settings of", "before, W", "after, W"],
        profile.idle.iter().map(line),
    )
}

fn skipped(profile: &Profile) -> String {
    let line = |left: &super::grid::Skipped| vec![text(&left.cell.to_string()), text(&left.why)];
    table(&["setting", "why"], profile.skipped.iter().map(line))
}

/// Four figures.
fn figures(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 0.1 || s == 0.0 => 3,
        _ => 5,
    };
    format!("{value:.digits$}")
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
