//! A simulated server for tests: known qualities and costs, late labels, the router's own functions.

use super::draw::Draw;
use super::*;
use crate::units::{Joules, RequestId};

/// A kind of request: how it is worded and how often each model satisfies.
pub struct Kind {
    pub wording: &'static str,
    pub accuracy: Vec<f64>,
}

pub struct Scene {
    pub kinds: Vec<Kind>,
    /// Mean joules of an answer, per model, in rising order.
    pub cost: Vec<f64>,
    /// Labels come 0 to this many requests late.
    pub delay: usize,
    /// Share of answers that are never judged.
    pub missing: f64,
    /// Whether unseen answers get judged.
    pub unseen: bool,
    /// From this request on the kinds' accuracies are read with the first two models exchanged.
    pub swap_at: usize,
    /// Share of requests that come with an embedding, which tells their kind.
    pub embedded: f64,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub satisfaction: f64,
    /// The lowest cumulative satisfaction after request 500.
    pub worst: f64,
    /// Mean over the stream of the debt, in requests.
    pub debt: f64,
    /// Mean joules a request, extra answers included.
    pub joules: f64,
    pub unseen_joules: f64,
    pub share: Vec<f64>,
    pub queue: Vec<f64>,
    pub good: Vec<bool>,
    pub router: Router,
}

const WORDS: [&str; 24] = [
    "apple", "river", "stone", "cloud", "tiger", "lamp", "paper", "green", "seven", "north", "sugar",
    "piano", "chair", "ocean", "metal", "bread", "candle", "forest", "window", "rocket", "silver", "button",
    "garden", "mirror",
];

impl Scene {
    /// No context: one kind of request.
    pub fn plain() -> Self {
        let kinds = vec![Kind {
            wording: "Tell me about @ and @",
            accuracy: vec![0.55, 0.78, 0.96],
        }];
        Self {
            kinds,
            cost: vec![1.0, 2.0, 5.0],
            delay: 64,
            missing: 0.0,
            unseen: true,
            swap_at: usize::MAX,
            embedded: 0.0,
        }
    }

    /// Eighteen kinds that the wording tells apart.
    pub fn tasks() -> Self {
        let wordings = [
            "What is # plus #?",
            "Spell the word @ backwards",
            "How many letters are in @?",
            "Sort these words: @ @ @",
            "Which is larger, # or #?",
            "Continue the sequence # # #",
            "Write # as a Roman numeral",
            "What day comes # days after Monday?",
            "Convert # metres to feet",
            "What is the capital of @land?",
            "Give the chemical symbol of @",
            "What is the plural of @?",
            "Name the opposite of @",
            "List # animals starting with @",
            "Write the number # in words",
            "Multiply # by # and subtract #",
            "Is the statement about @ true or false?",
            "Translate @ into French",
        ];
        let accuracy = |n: usize| match n % 4 {
            0 | 2 => vec![0.95, 0.96, 0.97],
            1 => vec![0.10, 0.85, 0.95],
            _ => vec![0.08, 0.25, 0.95],
        };
        let kinds = wordings.iter().enumerate().map(|(n, wording)| Kind {
            wording,
            accuracy: accuracy(n),
        });
        Self {
            kinds: kinds.collect(),
            cost: vec![1.0, 4.0, 16.0],
            ..Self::plain()
        }
    }

    /// The same kinds, but worded alike: only an embedding tells them apart.
    pub fn whispered() -> Self {
        let mut scene = Self::tasks();
        for kind in &mut scene.kinds {
            kind.wording = "Please look at @ and tell me about @";
        }
        Self {
            embedded: 1.0,
            ..scene
        }
    }

    /// A direction of its own for each kind, and noise.
    fn embedding(&self, kind: usize, draw: &mut Draw) -> Option<Embedding> {
        if draw.uniform() >= self.embedded {
            return None;
        }
        let value = |place: u64| {
            let direction = Draw::new(place, kind as u64).uniform() - 0.5;
            (3.0 + direction + 0.3 * (draw.uniform() - 0.5)) as f32
        };
        Embedding::of("sim", &(0..100).map(value).collect::<Vec<f32>>())
    }

    fn text(&self, kind: usize, draw: &mut Draw) -> String {
        let mut text = String::new();
        for letter in self.kinds[kind].wording.chars() {
            match letter {
                '@' => text.push_str(WORDS[draw.below(WORDS.len())]),
                '#' => text.push_str(&draw.below(1000).to_string()),
                other => text.push(other),
            }
        }
        text
    }

    /// Mean joules of the best mix of models per kind, for a clairvoyant who knows every rate.
    pub fn best_mix(&self, alpha: f64) -> f64 {
        let dearest = self.cost.iter().copied().fold(0.0, f64::max);
        let rows: Vec<price::Row> = self
            .kinds
            .iter()
            .map(|k| {
                self.cost
                    .iter()
                    .map(|c| c / dearest)
                    .zip(k.accuracy.iter().copied())
                    .collect()
            })
            .collect();
        let price = price::solve(&rows, alpha).unwrap().price;
        let at = |price: f64| {
            let picks = rows.iter().map(|r| r[price::choose(r, price)]);
            picks.fold((0.0, 0.0), |(c, s), pick| {
                (c + pick.0 / rows.len() as f64, s + pick.1 / rows.len() as f64)
            })
        };
        let (below, above) = (at(price - 1e-4), at(price + 1e-4));
        let share = if above.1 > below.1 {
            ((alpha - below.1) / (above.1 - below.1)).clamp(0.0, 1.0)
        } else {
            0.0
        };
        dearest * (below.0 + share * (above.0 - below.0))
    }

    pub fn config(&self, policy: Policy, alpha: f64, seed: u64) -> RouterConfig {
        let model = |(n, cost): (usize, &f64)| ModelInfo {
            name: format!("m{n}"),
            parameters: (cost * 1e6) as u64,
        };
        let models = self.cost.iter().enumerate().map(model).collect();
        let config = RouterConfig::new(
            policy,
            models,
            vec![SlaConfig {
                name: "default".into(),
                alpha,
            }],
            seed,
        );
        RouterConfig {
            embedding: (self.embedded > 0.0).then(|| "sim".to_owned()),
            ..config
        }
    }

    pub fn run(&self, config: RouterConfig, requests: usize, log: &mut dyn FnMut(&RouterEvent)) -> Outcome {
        self.resume(Router::new(config).unwrap(), 1, requests, log)
    }

    /// Goes on with a router; the requests are numbered from `first`.
    pub fn resume(
        &self,
        mut router: Router,
        first: u64,
        requests: usize,
        log: &mut dyn FnMut(&RouterEvent),
    ) -> Outcome {
        let (seed, models) = (router.config().seed, router.config().models.len());
        let levels = router.config().slas.len();
        let mut due: Vec<Vec<RouterEvent>> = vec![vec![]; requests + self.delay + 16];
        let (mut satisfied, mut worst, mut joules, mut unseen_joules) = (0.0, 1.0f64, 0.0, 0.0);
        let (mut share, mut queue, mut good) = (vec![0.0; models], vec![], vec![]);
        for at in 0..requests {
            for event in std::mem::take(&mut due[at]) {
                log(&event);
                router.apply(&event);
            }
            let mut draw = Draw::new(seed ^ 0x5eed, first + at as u64);
            let kind = draw.below(self.kinds.len());
            let text = self.text(kind, &mut draw);
            let request = RequestId(first + at as u64);
            let ask = Ask {
                request,
                sla: SlaId((at % levels) as u16),
                text: &text,
                prompt_tokens: &[20],
                max_tokens: 64,
                occupancy: &[],
            };
            // From a draw of its own, so that scenes without embeddings run as they always did.
            let embedding = self.embedding(kind, &mut Draw::new(seed ^ 0xe3b, first + at as u64));
            let decision = router.decide_embedded(&ask, embedding);
            let event = RouterEvent::Decided(Box::new(decision.clone()));
            log(&event);
            router.apply(&event);
            queue.push(decision.queue);
            share[decision.model.index()] += 1.0 / requests as f64;
            let lot = draw.uniform();
            for model in [decision.model]
                .into_iter()
                .chain(decision.explore.iter().copied())
            {
                let served = model == decision.model;
                let place = match model.index() {
                    m @ (0 | 1) if at >= self.swap_at => 1 - m,
                    m => m,
                };
                let noise = 0.5 + draw.uniform();
                let spent = self.cost[model.index()] * noise;
                let tokens = (20.0 * noise) as u32;
                due[at + 1 + draw.below(8)].push(RouterEvent::Finished {
                    request,
                    model,
                    prompt_tokens: 20,
                    cached_tokens: 0,
                    output_tokens: tokens,
                    joules: Joules(spent),
                    exploration: !served,
                });
                joules += spent / requests as f64;
                // One lot for all models: a request that is hard for one is hard for the others.
                let happy = lot < self.kinds[kind].accuracy[place];
                let judged = draw.uniform() >= self.missing;
                if served {
                    satisfied += f64::from(happy);
                    good.push(happy);
                } else {
                    unseen_joules += spent / requests as f64;
                }
                if judged && (served || self.unseen) {
                    due[at + 1 + draw.below(self.delay + 1)].push(RouterEvent::Judged {
                        request,
                        model,
                        satisfied: f64::from(happy),
                        weight: 1.0,
                        source: LabelSource::Reference,
                        decision: None,
                    });
                }
            }
            if at >= 500 {
                worst = worst.min(satisfied / (at + 1) as f64);
            }
        }
        let satisfaction = satisfied / requests as f64;
        let alpha = router.config().slas[0].alpha;
        let debts = good.iter().scan(0.0, |debt, good| {
            *debt += alpha - f64::from(*good);
            Some(*debt)
        });
        let debt = debts.sum::<f64>() / requests as f64;
        Outcome {
            satisfaction,
            debt,
            worst,
            joules,
            unseen_joules,
            share,
            queue,
            good,
            router,
        }
    }
}
