//! From a row of logits to a token.
//!
//! The order is that of transformers and vLLM: penalties, biases, temperature, top-k, top-p, min-p. Of what is left
//! a draw takes one: walking the tokens in the order of their ids, the first at which the sum of weights passes the
//! draw's share of the whole. No step of it sorts the vocabulary.

use std::cell::RefCell;
use std::collections::HashMap;

use super::draw::uniform;
use super::request::Sampling;
use super::weights::{Cut, Key, Scale, block_peaks, highest, top};
use crate::model::Seen;
use crate::units::TokenId;

/// What a sampler must know of a sequence's past: the tokens it holds, each once, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct History {
    seen: Vec<Seen>,
    places: HashMap<TokenId, usize>,
}

impl History {
    /// Remembers only what the settings will ask for.
    pub fn new(sampling: &Sampling, prompt: &[TokenId]) -> Self {
        let mut history = Self::default();
        if sampling.repetition_penalty != 1.0 {
            for token in prompt {
                history.entry(*token);
            }
        }
        history
    }

    /// Takes in a token of the answer.
    pub fn push(&mut self, sampling: &Sampling, token: TokenId) {
        let counted = sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
        if counted || sampling.repetition_penalty != 1.0 {
            self.entry(token).answered += 1;
        }
    }

    /// What was seen, each token once.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    fn entry(&mut self, token: TokenId) -> &mut Seen {
        let place = *self.places.entry(token).or_insert(self.seen.len());
        if place == self.seen.len() {
            self.seen.push(Seen { token, answered: 0 });
        }
        &mut self.seen[place]
    }
}

/// Room to work in, kept from token to token.
#[derive(Default)]
struct Scratch {
    peaks: Vec<f32>,
    floors: Vec<f32>,
    sums: Vec<f64>,
    histogram: Vec<f64>,
    keys: Vec<Key>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Tokens looked at before a nucleus is searched in the whole vocabulary: a model that is sure of itself needs few.
const FIRST_LOOK: usize = 256;

/// Chooses the token at `position` of a sequence. `logits` is changed in place: biases and penalties stay in it.
pub fn sample(logits: &mut [f32], sampling: &Sampling, history: &History, position: usize) -> TokenId {
    adjust(logits, sampling, history);
    SCRATCH.with_borrow_mut(|scratch| {
        block_peaks(logits, &mut scratch.peaks);
        let best = || highest(logits, &scratch.peaks);
        if sampling.temperature <= 0.0 {
            return best();
        }
        let Some(scale) = Scale::new(&scratch.peaks, sampling.temperature) else {
            return best();
        };
        let draw = uniform(sampling.seed, position as u64);
        let best = best();
        scratch.choose(logits, scale, sampling, draw).unwrap_or(best)
    })
}

impl Scratch {
    /// Cuts and draws; `draw` is in [0, 1). `None` when rounding let the draw pass the last token.
    fn choose(&mut self, logits: &[f32], scale: Scale, sampling: &Sampling, draw: f64) -> Option<TokenId> {
        let share = f64::from(sampling.top_p);
        let least = f64::from(sampling.min_p);
        let top_k = sampling.top_k as usize;
        if top_k > 0 && top_k < logits.len() {
            top(logits, &self.peaks, top_k, &mut self.floors, &mut self.keys);
            let total: f64 = self.keys.iter().map(|key| weight(logits, scale, *key)).sum();
            let kept = prefix(logits, scale, &self.keys, share * total).unwrap_or(self.keys.len());
            return self.draw(logits, scale, kept, least, draw);
        }
        let mut cut = Cut::NONE;
        let mut total = scale.sums(logits, cut, &mut self.sums);
        if share < 1.0 {
            let wanted = share * total;
            top(logits, &self.peaks, FIRST_LOOK, &mut self.floors, &mut self.keys);
            if let Some(kept) = prefix(logits, scale, &self.keys, wanted) {
                return self.draw(logits, scale, kept, least, draw);
            }
            let (floor, ties) = scale.nucleus(logits, wanted, &mut self.histogram, &mut self.keys);
            cut = Cut { floor, ties, least };
            total = scale.sums(logits, cut, &mut self.sums);
        } else if least > 0.0 {
            cut.least = least;
            total = scale.sums(logits, cut, &mut self.sums);
        }
        scale.find(logits, cut, &self.sums, draw * total)
    }

    /// Draws from the first `kept` keys, less those that weigh under `least`.
    fn draw(&mut self, logits: &[f32], scale: Scale, kept: usize, least: f64, draw: f64) -> Option<TokenId> {
        self.keys.truncate(kept);
        self.keys.retain(|key| weight(logits, scale, *key) >= least);
        self.keys.sort_unstable_by_key(|key| key.token().0);
        let total: f64 = self.keys.iter().map(|key| weight(logits, scale, *key)).sum();
        let mut passed = 0.0;
        let drawn = self.keys.iter().find(|key| {
            passed += weight(logits, scale, **key);
            passed > draw * total
        });
        drawn.map(|key| key.token())
    }
}

fn weight(logits: &[f32], scale: Scale, key: Key) -> f64 {
    scale.weight(logits[key.token().0 as usize])
}

/// How many of the keys, highest first, it takes to weigh `wanted`; `None` when all together weigh less.
fn prefix(logits: &[f32], scale: Scale, keys: &[Key], wanted: f64) -> Option<usize> {
    let mut mass = 0.0;
    let last = keys.iter().position(|key| {
        mass += weight(logits, scale, *key);
        mass >= wanted
    });
    last.map(|at| at + 1)
}

/// Natural logarithms of the probabilities that `logits` stand for: `token`'s, then the `top` likeliest. Tokens that
/// cannot come at all are not among these.
pub fn logprobs(logits: &[f32], token: TokenId, count: usize) -> (f32, Vec<(TokenId, f32)>) {
    SCRATCH.with_borrow_mut(|scratch| {
        block_peaks(logits, &mut scratch.peaks);
        let Some(scale) = Scale::new(&scratch.peaks, 1.0) else {
            return (f32::NEG_INFINITY, Vec::new());
        };
        let total = scale.sums(logits, Cut::NONE, &mut scratch.sums).ln();
        let logprob = |token: TokenId| scale.log(logits[token.0 as usize], total);
        top(
            logits,
            &scratch.peaks,
            count,
            &mut scratch.floors,
            &mut scratch.keys,
        );
        let best = scratch.keys.iter().map(|key| key.token());
        (logprob(token), best.map(|t| (t, logprob(t))).collect())
    })
}

fn adjust(logits: &mut [f32], sampling: &Sampling, history: &History) {
    let factor = sampling.repetition_penalty;
    for Seen { token, answered } in &history.seen {
        let Some(logit) = logits.get_mut(token.0 as usize) else {
            continue;
        };
        *logit = if *logit > 0.0 {
            *logit / factor
        } else {
            *logit * factor
        };
        if *answered > 0 {
            *logit -= sampling.presence_penalty + sampling.frequency_penalty * *answered as f32;
        }
    }
    for (token, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit += bias;
        }
    }
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

    #[test]
    fn every_penalty_counts_what_it_says() {
        // Logit 2 of token 0 against 1 of token 1: each setting turns the choice, and half of it does not.
        let choice = |sampling: &Sampling, prompt: &[TokenId], answer: &[TokenId]| {
            let mut history = History::new(sampling, prompt);
            answer.iter().for_each(|token| history.push(sampling, *token));
            sample(&mut [2.0, 1.0], sampling, &history, 0).0
        };
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let zero = TokenId(0);
        for (penalty, turned) in [(0.4, 0), (0.6, 1)] {
            let frequency = Sampling {
                frequency_penalty: penalty,
                ..greedy.clone()
            };
            assert_eq!(choice(&frequency, &[zero; 9], &[zero, zero]), turned);
            let presence = Sampling {
                presence_penalty: 2.0 * penalty,
                ..greedy.clone()
            };
            assert_eq!(choice(&presence, &[zero; 9], &[zero, zero]), turned);
        }
        for (penalty, turned) in [(1.9, 0), (2.1, 1)] {
            let repetition = Sampling {
                repetition_penalty: penalty,
                ..greedy.clone()
            };
            assert_eq!(choice(&repetition, &[zero, zero], &[]), turned);
            assert_eq!(choice(&repetition, &[], &[zero, zero, zero]), turned);
        }
        let outside = Sampling {
            logit_bias: vec![(TokenId(9), 50.0), (TokenId(1), 1.5)],
            ..greedy
        };
        assert_eq!(choice(&outside, &[], &[]), 1);
    }

    #[test]
    fn a_seed_repeats_itself_and_forbidden_tokens_never_come() {
        let row: Vec<f32> = (0..500)
            .map(|i| {
                if i % 3 == 0 {
                    f32::NEG_INFINITY
                } else {
                    (i as f32 * 0.7).sin()
                }
            })
            .collect();
        for (top_p, top_k, min_p) in [(1.0, 0, 0.0), (0.9, 0, 0.0), (1.0, 40, 0.0), (0.5, 400, 0.3)] {
            let sampling = Sampling {
                temperature: 1.5,
                top_p,
                top_k,
                min_p,
                seed: 11,
                ..Sampling::default()
            };
            let draw = |position| sample(&mut row.clone(), &sampling, &History::default(), position);
            let first: Vec<TokenId> = (0..300).map(draw).collect();
            assert_eq!(first, (0..300).map(draw).collect::<Vec<_>>());
            assert!(first.iter().all(|token| token.0 % 3 != 0));
            assert!(first.iter().any(|token| *token != first[0]));
        }
    }

    /// The definition, by a sort of everything.
    fn by_definition(logits: &[f32], sampling: &Sampling, position: usize) -> TokenId {
        let mut peaks = Vec::new();
        block_peaks(logits, &mut peaks);
        let scale = Scale::new(&peaks, sampling.temperature).unwrap();
        let mut order: Vec<usize> = (0..logits.len()).filter(|&i| logits[i].is_finite()).collect();
        order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
        if sampling.top_k > 0 {
            order.truncate(sampling.top_k as usize);
        }
        let weigh = |order: &[usize]| order.iter().map(|&i| scale.weight(logits[i])).sum::<f64>();
        let wanted = f64::from(sampling.top_p) * weigh(&order);
        let enough = (1..=order.len()).find(|&n| weigh(&order[..n]) >= wanted);
        order.truncate(enough.unwrap());
        order.retain(|&i| scale.weight(logits[i]) >= f64::from(sampling.min_p));
        order.sort_unstable();
        let target = uniform(sampling.seed, position as u64) * weigh(&order);
        let drawn = (1..=order.len()).find(|&n| weigh(&order[..n]) > target);
        TokenId(order[drawn.unwrap() - 1] as u32)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Coarse logits tie often; rows are longer than the first look at a nucleus.
        #[test]
        fn the_draw_is_that_of_the_definition(
            coarse in prop::collection::vec(-60i32..60, 2..900),
            grain in prop_oneof![Just(0.5f32), Just(0.01), Just(0.1)],
            forbidden in 2usize..9,
            temperature in 0.1f32..3.0,
            top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0, 0.9f32..1.0],
            top_k in prop_oneof![Just(0u32), 1u32..50, 1u32..1000],
            min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
            seed in any::<u64>(),
            position in 0usize..1000,
        ) {
            let logits: Vec<f32> = coarse.iter().enumerate()
                .map(|(i, &l)| if i % forbidden == 1 { f32::NEG_INFINITY } else { l as f32 * grain })
                .collect();
            let sampling = Sampling { temperature, top_p, top_k, min_p, seed, ..Sampling::default() };
            let drawn = sample(&mut logits.clone(), &sampling, &History::default(), position);
            prop_assert_eq!(drawn, by_definition(&logits, &sampling, position));
        }

        #[test]
        fn logprobs_are_a_distribution(logits in prop::collection::vec(-20f32..20.0, 2..50), top in 0usize..60) {
            let (chosen, best) = logprobs(&logits, TokenId(1), top);
            prop_assert_eq!(best.len(), top.min(logits.len()));
            prop_assert!(best.windows(2).all(|w| w[0].1 >= w[1].1));
            prop_assert!(chosen <= 1e-6);
            let peak = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
            let sum: f64 = logits.iter().map(|l| f64::from(l - peak).exp()).sum();
            let exact = f64::from(logits[1] - peak) - sum.ln();
            prop_assert!((f64::from(chosen) - exact).abs() < 1e-5);
            if top >= logits.len() {
                let sum: f64 = best.iter().map(|(_, l)| f64::from(*l).exp()).sum();
                prop_assert!((sum - 1.0).abs() < 1e-5);
            }
        }
    }
}
