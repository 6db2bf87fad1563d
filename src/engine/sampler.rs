//! From a row of logits to a token.

use std::collections::HashMap;

use super::draw::uniform;
use super::request::Sampling;
use crate::units::TokenId;

/// What a sampler must know of a sequence's past.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// How often the answer holds each token.
    answer: HashMap<TokenId, u32>,
    /// Tokens of prompt and answer, for the repetition penalty.
    seen: Vec<TokenId>,
}

impl History {
    /// Remembers only what the settings will ask for.
    pub fn new(sampling: &Sampling, prompt: &[TokenId]) -> Self {
        let mut history = Self::default();
        if sampling.repetition_penalty != 1.0 {
            history.seen = prompt.to_vec();
            history.seen.sort_unstable_by_key(|t| t.0);
            history.seen.dedup();
        }
        history
    }

    pub fn push(&mut self, sampling: &Sampling, token: TokenId) {
        if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
            *self.answer.entry(token).or_default() += 1;
        }
        if sampling.repetition_penalty != 1.0
            && let Err(at) = self.seen.binary_search_by_key(&token.0, |t| t.0)
        {
            self.seen.insert(at, token);
        }
    }
}

/// Chooses the token at `position` of a sequence. `logits` is changed in place: biases and penalties stay in it.
pub fn sample(logits: &mut [f32], sampling: &Sampling, history: &History, position: usize) -> TokenId {
    adjust(logits, sampling, history);
    if sampling.temperature <= 0.0 {
        return highest(logits);
    }
    let mut candidates = likeliest(logits, sampling);
    let total = shorten(&mut candidates, sampling);
    let mut left = uniform(sampling.seed, position as u64) * total;
    for (token, weight) in &candidates {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    candidates
        .last()
        .map_or_else(|| highest(logits), |(token, _)| *token)
}

/// Natural logarithms of the probabilities that `logits` stand for: `token`'s, then the `top` likeliest.
pub fn logprobs(logits: &[f32], token: TokenId, top: usize) -> (f32, Vec<(TokenId, f32)>) {
    let peak = f64::from(logits[highest(logits).0 as usize]);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - peak).exp()).sum();
    let logprob = |token: TokenId| (f64::from(logits[token.0 as usize]) - peak - sum.ln()) as f32;
    let mut order: Vec<TokenId> = (0..logits.len() as u32).map(TokenId).collect();
    let top = top.min(order.len());
    if top > 0 {
        order.select_nth_unstable_by(top - 1, |a, b| by_logit(logits, *a, *b));
    }
    order.truncate(top);
    order.sort_unstable_by(|a, b| by_logit(logits, *a, *b));
    (
        logprob(token),
        order.into_iter().map(|t| (t, logprob(t))).collect(),
    )
}

fn adjust(logits: &mut [f32], sampling: &Sampling, history: &History) {
    for (token, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit += bias;
        }
    }
    for token in &history.seen {
        let logit = &mut logits[token.0 as usize];
        let factor = sampling.repetition_penalty;
        *logit = if *logit > 0.0 {
            *logit / factor
        } else {
            *logit * factor
        };
    }
    for (token, count) in &history.answer {
        logits[token.0 as usize] -= sampling.presence_penalty + sampling.frequency_penalty * *count as f32;
    }
}

/// The first of the highest logits, so that greedy is the same on every machine.
fn highest(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    TokenId(best as u32)
}

fn by_logit(logits: &[f32], a: TokenId, b: TokenId) -> std::cmp::Ordering {
    logits[b.0 as usize]
        .total_cmp(&logits[a.0 as usize])
        .then(a.0.cmp(&b.0))
}

/// Tokens and their weights relative to the likeliest, likeliest first, at most `top_k` of them.
fn likeliest(logits: &[f32], sampling: &Sampling) -> Vec<(TokenId, f64)> {
    let temperature = f64::from(sampling.temperature);
    let peak = f64::from(logits[highest(logits).0 as usize]);
    let mut order: Vec<TokenId> = (0..logits.len() as u32).map(TokenId).collect();
    let keep = if sampling.top_k == 0 {
        order.len()
    } else {
        order.len().min(sampling.top_k as usize)
    };
    if keep < order.len() {
        order.select_nth_unstable_by(keep - 1, |a, b| by_logit(logits, *a, *b));
        order.truncate(keep);
    }
    order.sort_unstable_by(|a, b| by_logit(logits, *a, *b));
    order
        .into_iter()
        .map(|t| (t, ((f64::from(logits[t.0 as usize]) - peak) / temperature).exp()))
        .collect()
}

/// Cuts by top-p, then by min-p; at least one token stays. Returns the weight left.
fn shorten(candidates: &mut Vec<(TokenId, f64)>, sampling: &Sampling) -> f64 {
    let total: f64 = candidates.iter().map(|(_, w)| w).sum();
    let wanted = f64::from(sampling.top_p) * total;
    let mut mass = 0.0;
    let mut keep = 0;
    for (_, weight) in candidates.iter() {
        if keep > 0 && (mass >= wanted || *weight < f64::from(sampling.min_p)) {
            break;
        }
        mass += weight;
        keep += 1;
    }
    candidates.truncate(keep);
    mass
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 6] = [1.0, 3.0, 2.0, -1.0, 3.0, 0.5];

    fn drawn(sampling: &Sampling) -> Vec<f64> {
        let mut counts = vec![0.0; LOGITS.len()];
        for position in 0..40_000 {
            let mut logits = LOGITS;
            counts[sample(&mut logits, sampling, &History::default(), position).0 as usize] += 1.0 / 40_000.0;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        assert_eq!(
            sample(&mut LOGITS.clone(), &greedy, &History::default(), 0),
            TokenId(1)
        );
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let temperature = 0.7;
        let shares = drawn(&Sampling {
            temperature,
            ..Sampling::default()
        });
        let weights = LOGITS.map(|l| f64::from(l / temperature).exp());
        for (share, weight) in shares.iter().zip(weights) {
            assert!((share - weight / weights.iter().sum::<f64>()).abs() < 0.01);
        }
    }

    #[test]
    fn cuts_keep_only_what_they_say() {
        let only = |sampling: Sampling| -> Vec<usize> {
            drawn(&sampling)
                .iter()
                .enumerate()
                .filter(|(_, s)| **s > 0.0)
                .map(|(i, _)| i)
                .collect()
        };
        assert_eq!(
            only(Sampling {
                top_k: 2,
                ..Sampling::default()
            }),
            [1, 4]
        );
        assert_eq!(
            only(Sampling {
                top_p: 0.6,
                ..Sampling::default()
            }),
            [1, 4]
        );
        assert_eq!(
            only(Sampling {
                top_p: 1e-6,
                ..Sampling::default()
            }),
            [1]
        );
        assert_eq!(
            only(Sampling {
                min_p: 0.3,
                ..Sampling::default()
            }),
            [1, 2, 4]
        );
    }

    #[test]
    fn penalties_and_biases_move_the_choice() {
        let greedy = Sampling {
            temperature: 0.0,
            presence_penalty: 1.5,
            ..Sampling::default()
        };
        let mut history = History::new(&greedy, &[TokenId(1)]);
        assert_eq!(
            sample(&mut LOGITS.clone(), &greedy, &history, 0),
            TokenId(1),
            "prompts are not penalised"
        );
        history.push(&greedy, TokenId(1));
        history.push(&greedy, TokenId(4));
        assert_eq!(sample(&mut LOGITS.clone(), &greedy, &history, 0), TokenId(2));
        let repeat = Sampling {
            temperature: 0.0,
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        let history = History::new(&repeat, &[TokenId(4), TokenId(1)]);
        assert_eq!(sample(&mut LOGITS.clone(), &repeat, &history, 0), TokenId(2));
        let biased = Sampling {
            temperature: 0.0,
            logit_bias: vec![(TokenId(3), 9.0)],
            ..Sampling::default()
        };
        assert_eq!(
            sample(&mut LOGITS.clone(), &biased, &History::default(), 0),
            TokenId(3)
        );
    }

    proptest! {
        #[test]
        fn logprobs_are_a_distribution(logits in prop::collection::vec(-20f32..20.0, 2..50), top in 0usize..60) {
            let (chosen, best) = logprobs(&logits, TokenId(1), top);
            prop_assert_eq!(best.len(), top.min(logits.len()));
            prop_assert!(best.windows(2).all(|w| w[0].1 >= w[1].1));
            prop_assert!(chosen <= 1e-6);
            if top >= logits.len() {
                let sum: f64 = best.iter().map(|(_, l)| f64::from(*l).exp()).sum();
                prop_assert!((sum - 1.0).abs() < 1e-5);
            }
        }
    }
}
