//! A recorded trace in memory: per request its kind, its hashed text, and for every model what an answer came to.

use std::ops::Range;

/// One model's recorded answer to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// 0 to 1. Where the trace does not say: the model's mean over the benchmark.
    pub satisfied: f64,
    /// Whether the trace says so, and a judgement may be sent back.
    pub judged: bool,
    /// Joules of the answer. Where the trace does not say: the model's mean over the benchmark.
    pub joules: f64,
    /// Tokens generated; 0 where the trace does not say.
    pub output_tokens: u32,
    /// The model's own confidence in its answer (`confidence_X`, higher is surer); NaN where the trace does not say.
    pub confidence: f64,
}

/// One recorded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Place in [`Trace::benchmarks`].
    pub benchmark: u16,
    /// Place in [`Trace::categories`].
    pub category: u16,
    pub prompt_tokens: u32,
    features: Range<usize>,
}

/// All requests of the files read, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Names, in rising mean joules.
    pub models: Vec<String>,
    /// Mean joules of an answer over the whole trace, per model.
    pub mean_joules: Vec<f64>,
    /// Values of `benchmark_name`, in order of appearance.
    pub benchmarks: Vec<String>,
    /// Values of `category`, or of `benchmark_name` where there is no such column.
    pub categories: Vec<String>,
    pub requests: Vec<Request>,
    /// Whether `output_tokens_X` was there.
    pub counts_tokens: bool,
    /// Whether every answer has a `confidence_X`.
    pub has_confidence: bool,
    /// [`Self::models`] entries a request.
    answers: Vec<Answer>,
    features: Vec<u16>,
}

impl Trace {
    /// The recorded answers to a request, one a model.
    pub fn answers(&self, request: usize) -> &[Answer] {
        let width = self.models.len();
        &self.answers[request * width..(request + 1) * width]
    }

    /// Hashed n-grams of a request's text; empty when the trace was read without them.
    pub fn features(&self, request: usize) -> &[u16] {
        &self.features[self.requests[request].features.clone()]
    }

    pub fn has_features(&self) -> bool {
        !self.features.is_empty()
    }

    pub(super) fn push(
        &mut self,
        benchmark: u16,
        category: u16,
        prompt_tokens: u32,
        features: &[u16],
        answers: &[Answer],
    ) {
        debug_assert_eq!(answers.len(), self.models.len());
        let start = self.features.len();
        self.features.extend_from_slice(features);
        self.answers.extend_from_slice(answers);
        self.requests.push(Request {
            benchmark,
            category,
            prompt_tokens,
            features: start..self.features.len(),
        });
    }

    /// Puts the models in rising mean joules and fills in, per benchmark, what the trace leaves open. An error names
    /// a model and a benchmark of which nothing is known.
    pub(super) fn settle(&mut self) -> Result<(), (String, String, &'static str)> {
        let width = self.models.len();
        let mut known = vec![vec![[0.0f64; 4]; width]; self.benchmarks.len()];
        for (request, answers) in self.requests.iter().zip(self.answers.chunks(width)) {
            for (sums, answer) in known[usize::from(request.benchmark)].iter_mut().zip(answers) {
                if answer.judged {
                    sums[0] += 1.0;
                    sums[1] += answer.satisfied;
                }
                if answer.joules.is_finite() {
                    sums[2] += 1.0;
                    sums[3] += answer.joules;
                }
            }
        }
        for (benchmark, models) in known.iter().enumerate() {
            for (model, sums) in models.iter().enumerate() {
                let missing = match (sums[0] > 0.0, sums[2] > 0.0) {
                    (false, _) => "label",
                    (_, false) => "joules",
                    _ => continue,
                };
                return Err((
                    self.models[model].clone(),
                    self.benchmarks[benchmark].clone(),
                    missing,
                ));
            }
        }
        for (request, answers) in self.requests.iter().zip(self.answers.chunks_mut(width)) {
            for (sums, answer) in known[usize::from(request.benchmark)].iter().zip(answers) {
                if !answer.judged {
                    answer.satisfied = sums[1] / sums[0];
                }
                if !answer.joules.is_finite() {
                    answer.joules = sums[3] / sums[2];
                }
            }
        }
        let mut mean = vec![0.0; width];
        for answers in self.answers.chunks(width) {
            for (mean, answer) in mean.iter_mut().zip(answers) {
                *mean += answer.joules / self.requests.len().max(1) as f64;
            }
        }
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| mean[*a].total_cmp(&mean[*b]));
        self.models = order.iter().map(|m| self.models[*m].clone()).collect();
        self.mean_joules = order.iter().map(|m| mean[*m]).collect();
        for answers in self.answers.chunks_mut(width) {
            let sorted: Vec<Answer> = order.iter().map(|m| answers[*m]).collect();
            answers.copy_from_slice(&sorted);
        }
        Ok(())
    }
}
