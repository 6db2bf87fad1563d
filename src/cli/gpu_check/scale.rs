//! How large the measurements are: a GPU's, or small enough for the kernels on a CPU.

use std::time::Duration;

use crate::model::RandomShape;

pub struct Scale {
    /// Random cases of each family of kernels, and whether of a GPU's size.
    pub cases: usize,
    pub large_cases: bool,
    /// For all families together.
    pub kernel_time: Duration,
    pub copy_bytes: u64,
    pub matrix: usize,
    pub roofline_time: Duration,
    /// The three models hosted together.
    pub small: RandomShape,
    pub middle: RandomShape,
    pub large: RandomShape,
    /// Rows that a row is to keep its bits among.
    pub company: usize,
    pub streams: usize,
    /// Tokens that a sequence may have, at the start of one stream, at the start of many.
    pub context: usize,
    pub short: usize,
    pub long_context: usize,
    /// Decode steps that are timed.
    pub steps: usize,
    pub prompt: usize,
    pub step_tokens: usize,
    /// Rows of the hosted models, and bytes of keys and values of all.
    pub rows: usize,
    pub kv_bytes: u64,
    pub hosted_context: usize,
    /// Requests to each model of the mixed traffic, their prompts and answers.
    pub requests: usize,
    pub prompt_tokens: usize,
    pub output_tokens: usize,
    /// Batch sizes whose joules are told.
    pub batches: Vec<usize>,
    pub idle: Duration,
}

impl Scale {
    pub fn of_a_gpu(small: RandomShape, middle: RandomShape, large: RandomShape) -> Self {
        Self {
            cases: 24,
            large_cases: true,
            kernel_time: Duration::from_secs(75),
            copy_bytes: 4 << 30,
            matrix: 8192,
            roofline_time: Duration::from_secs(2),
            small,
            middle,
            large,
            company: 64,
            streams: 64,
            context: 2048 + 256,
            short: 128,
            long_context: 2048,
            steps: 128,
            prompt: 8192,
            step_tokens: 2048,
            rows: 128,
            kv_bytes: 12 << 30,
            hosted_context: 2048,
            requests: 48,
            prompt_tokens: 128,
            output_tokens: 128,
            batches: vec![1, 8, 64],
            idle: Duration::from_secs(5),
        }
    }
}
