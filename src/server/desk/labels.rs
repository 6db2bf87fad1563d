//! Labels that nobody gives by hand: an answer's agreement with the largest model's, and the verdict of a judge. They
//! come after the answer has gone out, and only where neither a reference nor a stronger label speaks.

use crate::config::Labels;
use crate::engine::ModelFacts;
use crate::router::{Decision, LabelSource, RouterEvent};
use crate::units::{ModelId, RequestId};

use super::Inner;
use super::plan::{Aim, Plan};
use super::story::{Label, Story};

/// A reference answer of at most this many words has to be met exactly.
const SHORT_WORDS: usize = 8;
/// Share of words (harmonic mean of both directions) that longer answers must have in common.
const COMMON_WORDS: f64 = 0.6;

impl Inner {
    /// Whose word counts for a request; for one that no promise covers, as by default.
    pub(super) fn trust(&self, sla: Option<&str>) -> &Labels {
        let place = sla.and_then(|name| self.slas.iter().position(|sla| sla == name));
        place
            .and_then(|place| self.labels.get(place))
            .unwrap_or(&self.default_labels)
    }

    /// Agreement needs the largest model's answer beside any that was made to learn from.
    pub(super) fn with_referee(&self, plan: &Plan, mut decision: Decision) -> Decision {
        let Aim::Routed { name, .. } = &plan.aim else {
            return decision;
        };
        let wanted =
            decision.explored && plan.ask.reference.is_none() && self.trust(Some(name)).agreement > 0.0;
        let referee = largest(self.engine.models()).filter(|model| wanted && plan.fits(*model));
        decision
            .explore
            .extend(referee.filter(|m| *m != decision.model && !decision.explore.contains(m)));
        decision
    }

    /// Whether an answer will be looked at once it is out.
    pub(super) fn is_to_be_labelled(&self, story: &Story) -> bool {
        let trust = self.trust(story.sla.as_deref());
        let unjudged = story.decision.is_some() && story.reference.is_none();
        let learnt_from = story.decision.as_ref().is_some_and(|decision| decision.explored);
        let by_judge = trust.judge > 0.0 && (learnt_from || drawn(story.request, trust.judge_share));
        unjudged && (by_judge || (trust.agreement > 0.0 && learnt_from))
    }

    /// Labels every answer of a request as its service level trusts, and books what that cost.
    pub(super) async fn label(&self, story: &mut Story) {
        let trust = self.trust(story.sla.as_deref()).clone();
        let agreement = self.agreement(story, &trust);
        if trust.judge > agreement.first().map_or(0.0, |label| label.weight) {
            (story.labels, story.judging) = self.judge(story, &trust).await;
        }
        for label in agreement {
            if story.labels.iter().all(|known| known.model != label.model) {
                story.labels.push(label);
            }
        }
    }

    fn agreement(&self, story: &Story, trust: &Labels) -> Vec<Label> {
        let Some(referee) = largest(self.engine.models()).filter(|_| trust.agreement > 0.0) else {
            return Vec::new();
        };
        let Some(word) = story
            .answers_by_model()
            .find(|(model, _)| *model == referee)
            .and_then(|(_, answers)| answers.first())
        else {
            return Vec::new();
        };
        let label = |(model, answers): (ModelId, &[String])| {
            let agreeing = answers.iter().filter(|answer| agree(answer, word)).count();
            Label {
                model,
                satisfied: agreeing as f64 / answers.len().max(1) as f64,
                weight: trust.agreement,
                source: LabelSource::Agreement,
            }
        };
        // Nothing is learnt from the referee agreeing with itself when it answered alone.
        if story.explored.is_empty() {
            return Vec::new();
        }
        story.answers_by_model().map(label).collect()
    }
}

/// The events of a request's labels.
pub(super) fn events(story: &Story) -> impl Iterator<Item = RouterEvent> {
    story.labels.iter().map(|label| RouterEvent::Judged {
        request: story.request,
        model: label.model,
        satisfied: label.satisfied,
        weight: label.weight,
        source: label.source,
        decision: None,
    })
}

pub(super) fn largest(models: &[ModelFacts]) -> Option<ModelId> {
    models
        .iter()
        .max_by_key(|facts| facts.parameters)
        .map(|facts| facts.id)
}

/// Whether a request is among the share drawn: the same answer whenever it is asked.
fn drawn(request: RequestId, share: f64) -> bool {
    // Ids of neighbours differ in their last bits only (multiplier: Fibonacci hashing, Knuth 6.4).
    let mixed = request.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    (mixed as f64 / (1u64 << 53) as f64) < share
}

/// Whether two answers say the same, as far as words tell: the same final number, the same words when short, most words
/// in common when long.
fn agree(answer: &str, word: &str) -> bool {
    let (ours, theirs) = (words(answer), words(word));
    if ours == theirs {
        return true;
    }
    if theirs.len() <= SHORT_WORDS {
        let number = |words: &[String]| words.last().and_then(|last| last.parse::<f64>().ok());
        return matches!((number(&ours), number(&theirs)), (Some(a), Some(b)) if a == b);
    }
    let mut left = theirs.clone();
    let common = ours
        .iter()
        .filter(|word| {
            let place = left.iter().position(|other| other == *word);
            place.map(|place| left.swap_remove(place)).is_some()
        })
        .count();
    2.0 * common as f64 >= COMMON_WORDS * (ours.len() + theirs.len()) as f64
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_agree_in_words_or_in_their_number() {
        for (one, other) in [
            ("Paris", " paris."),
            ("The capital is Paris", "the capital is Paris!"),
            ("42", "it is 42."),
            ("17 + 25 = 42", "42.0"),
        ] {
            assert!(agree(one, other), "{one:?} and {other:?}");
        }
        for (one, other) in [("Paris", "Rome"), ("42", "-42"), ("", "yes"), ("41", "it is 42")] {
            assert!(!agree(one, other), "{one:?} and {other:?}");
        }
    }

    #[test]
    fn long_answers_agree_in_most_of_their_words() {
        let word = "The quick brown fox jumps over the lazy dog near the river";
        assert!(agree(
            "A quick brown fox jumps over a lazy dog by the river",
            word
        ));
        assert!(!agree(
            "Nobody has ever seen a fox jump over anything at all here",
            word
        ));
        assert!(!agree("the", word));
    }

    #[test]
    fn about_the_share_is_drawn() {
        let ids = (0..20_000u64).map(|n| RequestId(0x1a20_b018_4ba0_0000 + n));
        let count = ids.clone().filter(|id| drawn(*id, 0.05)).count();
        assert!((800..1200).contains(&count), "{count}");
        assert!(ids.clone().all(|id| drawn(id, 1.0)));
        assert!(!ids.into_iter().any(|id| drawn(id, 0.0)));
    }
}
