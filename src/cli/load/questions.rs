//! The demo questions, in an order that a seed decides.

use serde::Deserialize;

use super::numbers::Random;
use crate::hub::DEMO_QUESTIONS;

/// A question and the one right answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Question {
    pub question: String,
    pub reference: String,
}

impl Question {
    /// Whether an answer says exactly the reference, white space around it aside.
    pub fn is_answered_by(&self, answer: &str) -> bool {
        answer.trim() == self.reference.trim()
    }
}

/// All demo questions, shuffled.
pub fn demo(seed: u64) -> Result<Vec<Question>, String> {
    let lines = DEMO_QUESTIONS.lines().filter(|line| !line.trim().is_empty());
    let read = lines
        .map(serde_json::from_str)
        .collect::<Result<Vec<Question>, _>>();
    let mut questions =
        read.map_err(|e| format!("the demo questions in this binary are broken ({e}): build it again"))?;
    if questions.is_empty() {
        return Err("this binary holds no demo questions: build it again".into());
    }
    let mut random = Random::new(seed);
    // Fisher and Yates; the modulus' bias is some 1e-16.
    for last in (1..questions.len()).rev() {
        questions.swap(last, (random.next() % (last as u64 + 1)) as usize);
    }
    Ok(questions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_order() {
        let (a, b, c) = (demo(1).unwrap(), demo(1).unwrap(), demo(2).unwrap());
        assert_eq!(a, b);
        assert_ne!(a, c);
        let sorted = |mut q: Vec<Question>| {
            q.sort_by(|x, y| (&x.question, &x.reference).cmp(&(&y.question, &y.reference)));
            q
        };
        assert_eq!(sorted(a), sorted(c));
    }

    #[test]
    fn only_white_space_is_forgiven() {
        let question = Question {
            question: "?".into(),
            reference: "New Delhi".into(),
        };
        assert!(question.is_answered_by(" New Delhi\n"));
        for wrong in ["new delhi", "New Delhi.", "", "New  Delhi"] {
            assert!(!question.is_answered_by(wrong));
        }
    }
}
