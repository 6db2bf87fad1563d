//! What goes into a lane and what comes out of it: plain data, no tensors.

use std::time::Duration;

use tokio::sync::mpsc;

use super::grammar::Constraint;
use crate::energy::Account;
use crate::units::{ModelId, TokenId};

/// One answer to make: a prompt already in tokens, and how to sample.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whom the joules are booked to. It also names the request.
    pub account: Account,
    pub model: ModelId,
    /// At least one token.
    pub prompt: Vec<TokenId>,
    /// Prompt and this together must fit the model's context. 0 reads the prompt and answers nothing: the outcome then
    /// carries its hidden state.
    pub max_tokens: u32,
    pub sampling: Sampling,
    /// Strings that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// `Some(n)`: log-probabilities of each token and of the `n` likeliest beside it (n ≤ 20).
    pub logprobs: Option<u8>,
    /// What the answer has to be; `None` leaves it free. A stop string may still cut it short.
    pub constraint: Option<Constraint>,
}

/// How a token is chosen from the logits. The draw depends on `seed` and the token's position alone,
/// never on the company in the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the likeliest tokens up to this mass, in (0, 1].
    pub top_p: f32,
    /// Keep this many likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep tokens at least this fraction as likely as the likeliest, in [0, 1].
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer; 1 is none.
    pub repetition_penalty: f32,
    /// Taken from the logit of every token the answer holds, once.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time the answer holds it.
    pub frequency_penalty: f32,
    /// Added to logits after the penalties.
    pub logit_bias: Vec<(TokenId, f32)>,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// A token and how likely it was, as natural logarithm after temperature-free softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub token: TokenId,
    /// The token's own text; may be half a character, then bytes say what text cannot.
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// The chosen token's log-probability and its likeliest rivals, likeliest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    pub chosen: TokenLogprob,
    pub top: Vec<TokenLogprob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, a stop string, or a constrained answer that nothing can follow.
    Stop,
    /// `max_tokens` reached.
    Length,
}

/// What a job's stream carries: any number of `Text`, then exactly one `Done` or `Failed`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Whole characters ready to show, and the log-probabilities of the tokens they came from when asked for.
    /// One event a token, save that text held back (half a character, a possible stop string) comes with a later one.
    Text {
        text: String,
        logprobs: Vec<Logprobs>,
    },
    Done(Outcome),
    Failed(EngineError),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub finish: FinishReason,
    /// The stop string that ended it.
    pub stopped_by: Option<String>,
    pub prompt_tokens: u32,
    /// Prompt tokens whose keys and values were found in the prefix cache.
    pub cached_tokens: u32,
    /// Sampled tokens, the end token included.
    pub completion_tokens: u32,
    pub timing: JobTiming,
    /// The last layer's state of the prompt's last token, of a job that only read; else empty.
    pub hidden: Vec<f32>,
}

/// All from the moment the job was submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobTiming {
    /// Until its first step began.
    pub queued: Duration,
    pub first_token: Duration,
    pub total: Duration,
}

/// The receiving end of a job. Dropping it cancels the job at the next step.
pub type JobStream = mpsc::UnboundedReceiver<Event>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("the queue is full: {waiting} requests wait already; try again in {} s", in_seconds(*.retry_after))]
    QueueFull {
        waiting: usize,
        /// Until the queue will have drained, at the pace of late.
        retry_after: Duration,
    },
    #[error(
        "the prompt has {prompt_tokens} tokens and up to {max_tokens} are to be generated, but '{model}' has a \
         context of {max_context}: shorten the prompt or lower max_tokens"
    )]
    ContextExceeded {
        model: String,
        prompt_tokens: usize,
        max_tokens: usize,
        max_context: usize,
    },
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    #[error("the token {token} is not in the vocabulary of '{model}', which has {vocabulary} tokens")]
    UnknownToken {
        model: String,
        token: u32,
        vocabulary: usize,
    },
    #[error("the messages cannot be put into the chat template of '{model}': {reason}")]
    Template { model: String, reason: String },
    #[error("'{model}' cannot keep an answer to what the request constrains it to: {reason}")]
    Constraint { model: String, reason: String },
    #[error("the answer was given up, because its grammar became too large to follow: {reason}")]
    Grammar { reason: String },
    #[error("'{model}' does not show its hidden states: name an architecture that is served in batches")]
    NoHidden { model: String },
    #[error("no encoder is loaded: name one in the zoo file's [router]")]
    NoEncoder,
    #[error("'{model}' failed while computing: {reason}")]
    Step { model: String, reason: String },
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Whole seconds, at least one: what `Retry-After` says, too.
fn in_seconds(time: Duration) -> u64 {
    (time.as_secs_f64().ceil() as u64).max(1)
}
