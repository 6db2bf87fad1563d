//! The reference a request may bring along, and whether an answer matches it.

use serde_json::Value;

use super::WireError;
use super::fields::Fields;

/// The right answer, and what counts as giving it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub text: String,
    pub rule: MatchRule,
}

/// When an answer counts as matching. White space at either end never matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchRule {
    /// The whole answer is the reference.
    #[default]
    Exact,
    /// The reference stands somewhere in the answer.
    Contains,
    /// The last number in the answer is the reference.
    Numeric,
}

impl Reference {
    /// Reads `reference` and `match` of the `messplus` object.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Self>, WireError> {
        let rule = match fields.text("match")? {
            None | Some("exact") => MatchRule::Exact,
            Some("contains") => MatchRule::Contains,
            Some("numeric") => MatchRule::Numeric,
            Some(other) => {
                let param = fields.path("match");
                let message = format!("'{param}' must be exact, contains or numeric, but it is '{other}'");
                return Err(WireError::invalid(param, message));
            }
        };
        let param = fields.path("reference");
        let text = match fields.get("reference") {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(WireError::wrong_type(param, "a string", other)),
        };
        if rule == MatchRule::Numeric && last_number(&text).is_none() {
            let message = format!("'{param}' must hold a number when 'match' is numeric, but it is '{text}'");
            return Err(WireError::invalid(param, message));
        }
        Ok(Some(Self { text, rule }))
    }

    /// Whether `answer` is satisfying.
    pub fn judges(&self, answer: &str) -> bool {
        let (answer, wanted) = (answer.trim(), self.text.trim());
        match self.rule {
            MatchRule::Exact => answer == wanted,
            MatchRule::Contains => answer.contains(wanted),
            MatchRule::Numeric => match (last_number(answer), last_number(wanted)) {
                (Some(got), Some(wanted)) => (got - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
                _ => false,
            },
        }
    }
}

/// The last number written in a text. A comma before three digits is taken for a thousands separator.
fn last_number(text: &str) -> Option<f64> {
    let plain: Vec<char> = text.replace('\u{2212}', "-").chars().collect();
    let digit = |at: usize| plain.get(at).is_some_and(char::is_ascii_digit);
    let last = plain.iter().rposition(char::is_ascii_digit)?;
    let mut first = last;
    let mut seen_point = false;
    let mut group = 1;
    while let Some(before) = first.checked_sub(1) {
        let inner = match plain[before] {
            '0'..='9' => {
                group += 1;
                true
            }
            ',' if group == 3 && before > 0 && digit(before - 1) => {
                group = 0;
                true
            }
            '.' if !seen_point => {
                (seen_point, group) = (true, 0);
                true
            }
            _ => false,
        };
        if !inner {
            break;
        }
        first = before;
    }
    // A minus is a sign only where it does not stand between two operands, as in "7-3".
    let negative =
        first > 0 && plain[first - 1] == '-' && (first == 1 || !plain[first - 2].is_alphanumeric());
    let digits: String = plain[first..=last].iter().filter(|c| **c != ',').collect();
    let size: f64 = digits.parse().ok()?;
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rule: MatchRule, reference: &str, answer: &str) -> bool {
        Reference {
            text: reference.into(),
            rule,
        }
        .judges(answer)
    }

    #[test]
    fn exact_is_the_whole_text_without_the_edges() {
        assert!(judge(MatchRule::Exact, "Paris", "  Paris\n"));
        assert!(!judge(MatchRule::Exact, "Paris", "Paris."));
        assert!(!judge(MatchRule::Exact, "Paris", "paris"));
        assert!(judge(MatchRule::Exact, "", " "));
    }

    #[test]
    fn contains_looks_anywhere() {
        assert!(judge(MatchRule::Contains, "Paris", "It is Paris, of course."));
        assert!(!judge(MatchRule::Contains, "Paris", "It is Rome."));
    }

    #[test]
    fn numeric_takes_the_last_number() {
        for (reference, answer) in [
            ("42", "6 * 7 = 42"),
            ("42", "42.0"),
            ("-3", "so it is -3."),
            ("-3", "so it is \u{2212}3"),
            ("4", "7-4"),
            ("1234", "1,234 apples"),
            ("1234.5", "1,234.5"),
            ("7", "3,5,7"),
            ("0.5", ".5"),
            ("12", "seven, five: 12"),
        ] {
            assert!(
                judge(MatchRule::Numeric, reference, answer),
                "{reference} in {answer}"
            );
        }
        for (reference, answer) in [("42", "43"), ("42", "none"), ("3", "-3"), ("42", "42, no: 41")] {
            assert!(
                !judge(MatchRule::Numeric, reference, answer),
                "{reference} not in {answer}"
            );
        }
    }
}
