//! Stop strings across token borders.

/// Lets text through until one of the stop strings appears, holding back what may be the beginning of one.
#[derive(Clone, Debug, Default)]
pub struct StopFinder {
    stops: Vec<String>,
    held: String,
    /// The stop string that appeared first.
    found: Option<String>,
}

impl StopFinder {
    pub fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(),
            held: String::new(),
            found: None,
        }
    }

    /// The stop string that ended the text.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// The text that may be shown now, and whether a stop string ended it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (text.to_owned(), false);
        }
        self.held.push_str(text);
        if let Some((at, stop)) = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)))
            .min()
        {
            self.found = Some(stop.clone());
            let mut shown = std::mem::take(&mut self.held);
            shown.truncate(at);
            return (shown, true);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, when the answer ends without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest proper beginning of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len())
        .rev()
        .find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the text is cut, the same part of it is shown.
        #[test]
        fn cuts_do_not_matter(text in "[abé]{0,30}", cuts in prop::collection::vec(1usize..4, 30), stops in prop::collection::vec("[abé]{1,4}", 0..3)) {
            let whole = stops.iter().filter_map(|s| text.find(s.as_str())).min();
            let mut finder = StopFinder::new(&stops);
            let mut shown = String::new();
            let mut stopped = false;
            let mut chars = text.chars().peekable();
            let mut cuts = cuts.iter().cycle();
            while chars.peek().is_some() && !stopped {
                let piece: String = chars.by_ref().take(*cuts.next().unwrap()).collect();
                let (out, end) = finder.push(&piece);
                shown.push_str(&out);
                stopped = end;
            }
            if !stopped {
                shown.push_str(&finder.finish());
            }
            prop_assert_eq!(stopped, whole.is_some());
            prop_assert_eq!(finder.found().is_some_and(|stop| stops.iter().any(|own| own == stop)), stopped);
            if stops.len() == 1 {
                prop_assert_eq!(shown, &text[..whole.unwrap_or(text.len())]);
            } else {
                prop_assert!(text.starts_with(&shown));
            }
        }
    }
}
