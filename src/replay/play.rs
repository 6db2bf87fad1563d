//! A stream through the router: the calls of the serving path, with recorded answers in the models' place.

use std::collections::VecDeque;

use super::course::Course;
use super::score::{Outcome, Score};
use crate::router::draw::Draw;
use crate::router::{Ask, ConfigError, Decision, LabelSource, Router, RouterConfig, RouterEvent, SlaId};
use crate::units::{Joules, ModelId, RequestId};

/// How and when answers and judgements come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Requests in flight: an answer is complete when this many more were decided, less one.
    pub concurrency: usize,
    /// Requests decided between a complete answer and its judgement.
    pub delay: usize,
    /// Share of requests whose answers are judged at all.
    pub share: f64,
    /// From these requests on, these promises.
    pub alphas: Vec<(usize, f64)>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            concurrency: 1,
            delay: 0,
            share: 1.0,
            alphas: vec![],
        }
    }
}

impl Traffic {
    /// The promise at every request, given the first.
    pub fn alpha(&self, first: f64, at: usize) -> f64 {
        self.alphas
            .iter()
            .rev()
            .find(|(from, _)| *from <= at)
            .map_or(first, |(_, alpha)| *alpha)
    }

    /// Mean promise over a stream.
    pub fn mean_alpha(&self, first: f64, requests: usize) -> f64 {
        if self.alphas.is_empty() {
            return first;
        }
        (0..requests).map(|at| self.alpha(first, at)).sum::<f64>() / requests.max(1) as f64
    }
}

/// Whether a request's answers are judged: the same for every policy.
pub fn judged(seed: u64, at: usize, share: f64) -> bool {
    const JUDGING: u64 = 0x1d6e_0000_0000;
    share >= 1.0 || Draw::new(seed, JUDGING + at as u64).uniform() < share
}

/// Plays a course through a router of this configuration.
pub fn play(
    course: &Course,
    config: RouterConfig,
    traffic: &Traffic,
    score: &mut Score,
) -> Result<(), ConfigError> {
    let mut router = Router::new(config)?;
    let lag = traffic.concurrency.max(1) - 1;
    let mut open: VecDeque<Box<Decision>> = VecDeque::with_capacity(lag + traffic.delay + 1);
    let mut extra = vec![];
    // Without token counts a model's output is one thing, whose cost is its mean.
    let counts_tokens = course.trace.counts_tokens;
    for at in 0..course.len() {
        if let Some((_, alpha)) = traffic.alphas.iter().find(|(from, _)| *from == at) {
            let mut config = router.config().clone();
            config.slas[0].alpha = *alpha;
            router = Router::restore(config, router.snapshot())?;
        }
        let request = course.request(at);
        let ask = Ask {
            request: RequestId(at as u64),
            sla: SlaId(0),
            text: "",
            prompt_tokens: &[request.prompt_tokens],
            max_tokens: if counts_tokens { u32::MAX } else { 1 },
            occupancy: &[],
        };
        let features = if router.config().knobs.context {
            course.features(at).to_vec()
        } else {
            vec![]
        };
        let decision = Box::new(router.decide_prepared(&ask, features));
        extra.clear();
        extra.extend(decision.explore.iter().map(|m| m.index()));
        score.add(&Outcome {
            model: decision.model.index(),
            extra: &extra,
            explored: decision.explored,
            queue: decision.queue,
            alpha: decision.alpha,
        });
        let event = RouterEvent::Decided(decision);
        router.apply(&event);
        if let RouterEvent::Decided(decision) = event {
            open.push_back(decision);
        }
        if let Some(done) = at.checked_sub(lag) {
            let decision = &open[open.len() - 1 - lag];
            for model in answered(decision) {
                let answer = course.answer(done, model.index());
                router.apply(&RouterEvent::Finished {
                    request: decision.request,
                    model,
                    prompt_tokens: course.request(done).prompt_tokens,
                    output_tokens: if counts_tokens { answer.output_tokens } else { 1 },
                    cached_tokens: 0,
                    joules: Joules(answer.joules),
                    exploration: model != decision.model,
                });
            }
        }
        if open.len() > lag + traffic.delay
            && let Some(decision) = open.pop_front()
        {
            let done = at - lag - traffic.delay;
            if judged(course.seed, done, traffic.share) {
                judge(&mut router, course, done, decision);
            }
        }
    }
    Ok(())
}

fn answered(decision: &Decision) -> impl Iterator<Item = ModelId> {
    [decision.model]
        .into_iter()
        .chain(decision.explore.iter().copied())
}

fn judge(router: &mut Router, course: &Course, at: usize, decision: Box<Decision>) {
    // Later than the router remembers, the server brings the decision back from its store.
    let late = !router.remembers(decision.request);
    for model in answered(&decision) {
        let answer = course.answer(at, model.index());
        if answer.judged {
            router.apply(&RouterEvent::Judged {
                request: decision.request,
                model,
                satisfied: answer.satisfied,
                weight: 1.0,
                source: LabelSource::Reference,
                decision: late.then(|| decision.clone()),
            });
        }
    }
}
