//! How a run goes, while it goes: a bar on a terminal, a line every few seconds elsewhere. All of it on standard
//! error, so that standard output holds the result alone.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_EVERY: Duration = Duration::from_millis(150);

pub struct Live {
    total: usize,
    what: &'static str,
    /// `None` where nobody watches.
    bar: Option<ProgressBar>,
    started: Instant,
    shown: Instant,
}

impl Live {
    /// `what` is being sent.
    pub fn start(total: usize, what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len} {wide_msg}");
            // The template is a constant; were it wrong, the plain bar would do.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar.tick();
            bar
        });
        Self {
            total,
            what,
            bar,
            started: Instant::now(),
            shown: Instant::now(),
        }
    }

    /// Shows the tally, unless it was shown just now.
    pub fn show(&mut self, tally: &Tally) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = line(tally, self.started.elapsed());
        let sent = tally.answered() + tally.failed();
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.set_position(sent as u64);
            }
            None => eprintln!("{} {sent}/{}: {line}", self.what, self.total),
        }
    }

    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A run so far in one line.
fn line(tally: &Tally, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    if let Some(share) = tally.satisfaction() {
        let alpha = tally.alpha().map(|a| format!(" (α {a})")).unwrap_or_default();
        parts.push(format!("satisfied {share:.3}{alpha}"));
    }
    if let Some(joules) = tally.joules_per_request() {
        parts.push(format!("{joules:.3} J a request"));
    }
    let shares = tally.shares();
    if !shares.is_empty() {
        let shares: Vec<_> = shares
            .iter()
            .map(|(model, share)| format!("{model} {:.0} %", share * 100.0))
            .collect();
        parts.push(shares.join(", "));
    }
    parts.push(format!(
        "{:.1}/s",
        tally.answered() as f64 / elapsed.as_secs_f64().max(1e-3)
    ));
    if tally.failed() > 0 {
        parts.push(format!("{} errors", tally.failed()));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::super::tally::{Answer, Spent};
    use super::*;

    #[test]
    fn the_line_says_how_it_goes() {
        let mut tally = Tally::default();
        let energy = Some(Spent {
            joules: 0.25,
            ..Spent::default()
        });
        tally.answer(Answer {
            model: "small".into(),
            satisfied: true,
            alpha: Some(0.85),
            energy,
            ..Answer::default()
        });
        tally.error("no".into());
        let said = line(&tally, Duration::from_secs(2));
        assert_eq!(
            said,
            "satisfied 1.000 (α 0.85) · 0.250 J a request · small 100 % · 0.5/s · 1 errors"
        );
        assert_eq!(line(&Tally::default(), Duration::from_secs(2)), "0.0/s");
    }
}
