//! One job on its way: its tokens, how far they are computed, the pages they live in and the text they became.

use tokio::sync::mpsc::UnboundedSender;

use super::board::QueuePlace;
use super::chain::Chain;
use super::grammar::Guide;
use super::pages::Page;
use super::prefix::{Ahead, PrefixCache};
use super::request::{EngineError, Event, FinishReason, Job, JobTiming, Logprobs, Outcome, TokenLogprob};
use super::sampler::{self, History};
use super::stop::StopFinder;
use crate::model::{Choice, Detokenizer, Logits, PAGE_TOKENS, Tokenizer};
use crate::units::{Moment, TokenId};

/// A job as it comes to its lane.
pub struct Arrival {
    pub job: Job,
    pub guide: Option<Guide>,
    pub events: UnboundedSender<Event>,
    pub place: QueuePlace,
    pub at: Moment,
}

pub struct Sequence {
    pub job: Job,
    events: UnboundedSender<Event>,
    place: Option<QueuePlace>,
    /// Prompt and answer.
    tokens: Vec<TokenId>,
    chain: Chain,
    /// The length that counts as the prompt's where keys depend on it.
    prompt_length: usize,
    history: History,
    guide: Option<Guide>,
    detokenizer: Detokenizer,
    stop: StopFinder,
    held_logprobs: Vec<Logprobs>,
    submitted: Moment,
    started: Option<Moment>,
    first_token: Option<Moment>,
}

impl Sequence {
    /// `salt` keeps its pages apart from those of sequences with another.
    pub fn new(arrival: Arrival, salt: u64) -> Self {
        let Arrival {
            job,
            guide,
            events,
            place,
            at: submitted,
        } = arrival;
        Self {
            place: Some(place),
            tokens: job.prompt.clone(),
            chain: Chain::new(salt),
            prompt_length: job.prompt.len(),
            history: History::new(&job.sampling, &job.prompt),
            guide,
            detokenizer: Detokenizer::after(&job.prompt),
            stop: StopFinder::new(&job.stop),
            held_logprobs: Vec::new(),
            submitted,
            started: None,
            first_token: None,
            events,
            job,
        }
    }

    /// Whether whoever asked has gone.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Tokens yet to compute before the next can be sampled; never 0.
    pub fn remaining(&self) -> usize {
        self.tokens.len() - self.chain.computed()
    }

    pub fn computed(&self) -> usize {
        self.chain.computed()
    }

    /// The next `count` tokens to compute.
    pub fn pending(&self, count: usize) -> &[TokenId] {
        &self.tokens[self.computed()..][..count]
    }

    /// Tokens of prompt and answer so far.
    pub fn length(&self) -> usize {
        self.tokens.len()
    }

    /// The length that counts as the prompt's where keys depend on it.
    pub fn prompt_length(&self) -> usize {
        self.prompt_length
    }

    /// Computes all its tokens again, as if they were a prompt.
    pub fn restart(&mut self, salt: u64) {
        self.prompt_length = self.tokens.len();
        self.chain.restart(salt);
    }

    pub fn page_numbers(&self) -> &[u32] {
        self.chain.page_numbers()
    }

    pub fn holds_pages(&self) -> bool {
        !self.chain.page_numbers().is_empty()
    }

    /// Pages still missing to compute `count` more tokens.
    pub fn pages_missing(&self, count: usize) -> usize {
        self.chain.pages_missing(self.computed() + count)
    }

    /// Pages to hold all its tokens and to go on for a page's length, as far as its answer may go.
    pub fn pages_to_go_on(&self) -> usize {
        let longest = self.job.prompt.len() + self.job.max_tokens as usize;
        (self.tokens.len() + PAGE_TOKENS)
            .min(longest)
            .div_ceil(PAGE_TOKENS)
    }

    pub fn add_page(&mut self, page: Page) {
        self.chain.add_page(page);
    }

    /// Gives all pages back; a sequence that goes on computes what they held again, or finds it in the cache.
    pub fn release_pages(&mut self) {
        self.chain.clear();
    }

    /// What `cache` has of its beginning.
    pub fn ahead(&mut self, cache: &PrefixCache) -> Ahead {
        self.chain.ahead(cache, &self.tokens)
    }

    /// Takes what `cache` has of the tokens to compute next.
    pub fn take_cached(&mut self, cache: &PrefixCache) {
        self.chain.take_cached(cache, &self.tokens);
    }

    /// Lets `cache` know the pages that have become full.
    pub fn offer_pages(&mut self, cache: &PrefixCache) {
        self.chain.offer(cache, &self.tokens);
    }

    /// Whether `older` is about to compute the page that this one needs next.
    pub fn awaits(&self, older: &Sequence) -> bool {
        self.chain.awaits(&self.tokens, &older.chain)
    }

    /// Frees the sequence's place in the queue; a preempted sequence waits without one.
    pub fn leave_queue(&mut self) {
        self.place = None;
    }

    pub fn start(&mut self, now: Moment) {
        self.started.get_or_insert(now);
    }

    /// Of the next `count` tokens, those that belong to the prompt and those that were decoded one step ago.
    /// Tokens computed again after a preemption count as prefill: that is the work they are.
    pub fn split(&self, count: usize) -> (u32, u32) {
        let decoding = count == 1 && self.remaining() == 1 && self.tokens.len() > self.job.prompt.len();
        if decoding { (0, 1) } else { (count as u32, 0) }
    }

    /// Books `count` computed tokens.
    pub fn advance(&mut self, count: usize) {
        self.chain.advance(count);
    }

    /// Whether its prompt is only read.
    pub fn only_reads(&self) -> bool {
        self.job.max_tokens == 0
    }

    /// The end of a prompt that was only read, with its last token's state.
    pub fn read(&self, hidden: &[f32], now: Moment) -> Event {
        self.ended(FinishReason::Length, hidden.to_vec(), now)
    }

    /// How a decoder that draws itself is to draw the next token; `None` where its logits are needed here.
    pub fn choice(&self) -> Option<Choice<'_>> {
        if self.guide.is_some() || self.job.logprobs.is_some() {
            return None;
        }
        let sampling = &self.job.sampling;
        Some(Choice {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            top_k: sampling.top_k,
            repetition_penalty: sampling.repetition_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            seed: sampling.seed,
            position: self.tokens.len() as u32,
            history: self.history.seen(),
            biases: &sampling.logit_bias,
        })
    }

    /// Takes the token that the decoder drew for `row` or samples it from the row's logits, sends what text it completes,
    /// and says how the job ended if it did.
    pub fn accept(
        &mut self,
        logits: &mut Logits,
        row: usize,
        tokenizer: &Tokenizer,
        end_tokens: &[TokenId],
        now: Moment,
    ) -> Option<Event> {
        let failed = |reason| Some(Event::Failed(EngineError::Grammar { reason }));
        let token = match logits.token(row) {
            Some(token) => token,
            None => {
                let logits = logits.row_mut(row);
                if let Some(Err(reason)) = self.guide.as_mut().map(|guide| guide.restrict(logits)) {
                    return failed(reason);
                }
                sampler::sample(logits, &self.job.sampling, &self.history, self.tokens.len())
            }
        };
        self.first_token.get_or_insert(now);
        self.history.push(&self.job.sampling, token);
        self.tokens.push(token);
        if end_tokens.contains(&token) {
            let rest = self.remaining_text(tokenizer);
            self.send(rest);
            return Some(self.outcome(FinishReason::Stop, now));
        }
        if let Some(top) = self.job.logprobs {
            self.held_logprobs
                .push(describe(logits.row(row), token, top, tokenizer));
        }
        let mut whole = false;
        if let Some(guide) = &mut self.guide {
            match guide.accept(token) {
                Ok(is_whole) => whole = is_whole,
                Err(reason) => return failed(reason),
            }
        }
        let text = self.detokenizer.push(tokenizer, token);
        let (text, stopped) = self.stop.push(&text);
        if stopped {
            self.send(text);
            return Some(self.outcome(FinishReason::Stop, now));
        }
        if whole || self.answer_tokens() >= self.job.max_tokens {
            let rest = text + &self.remaining_text(tokenizer);
            self.send(rest);
            let finish = if whole {
                FinishReason::Stop
            } else {
                FinishReason::Length
            };
            return Some(self.outcome(finish, now));
        }
        if !text.is_empty() {
            self.send(text);
        }
        None
    }

    /// Sends the closing event.
    pub fn close(self, event: Event) {
        // The receiver may be gone: then nobody wants to know.
        let _ = self.events.send(event);
    }

    fn answer_tokens(&self) -> u32 {
        (self.tokens.len() - self.job.prompt.len()) as u32
    }

    fn remaining_text(&mut self, tokenizer: &Tokenizer) -> String {
        let half = self.detokenizer.finish(tokenizer);
        let (text, stopped) = self.stop.push(&half);
        if stopped { text } else { text + &self.stop.finish() }
    }

    fn send(&mut self, text: String) {
        let logprobs = std::mem::take(&mut self.held_logprobs);
        if !text.is_empty() || !logprobs.is_empty() {
            let _ = self.events.send(Event::Text { text, logprobs });
        }
    }

    fn outcome(&self, finish: FinishReason, now: Moment) -> Event {
        self.ended(finish, Vec::new(), now)
    }

    fn ended(&self, finish: FinishReason, hidden: Vec<f32>, now: Moment) -> Event {
        let since = |moment: Option<Moment>| {
            std::time::Duration::from_secs_f64(moment.unwrap_or(now).seconds_since(self.submitted))
        };
        Event::Done(Outcome {
            finish,
            stopped_by: self.stop.found().map(str::to_owned),
            prompt_tokens: self.job.prompt.len() as u32,
            cached_tokens: self.chain.cached() as u32,
            completion_tokens: self.answer_tokens(),
            timing: JobTiming {
                queued: since(self.started),
                first_token: since(self.first_token),
                total: since(Some(now)),
            },
            hidden,
        })
    }
}

fn describe(logits: &[f32], token: TokenId, top: u8, tokenizer: &Tokenizer) -> Logprobs {
    let (logprob, best) = sampler::logprobs(logits, token, usize::from(top));
    let named = |(token, logprob): (TokenId, f32)| {
        let (text, bytes) = tokenizer.piece(token);
        TokenLogprob {
            token,
            text,
            bytes,
            logprob,
        }
    };
    Logprobs {
        chosen: named((token, logprob)),
        top: best.into_iter().map(named).collect(),
    }
}
