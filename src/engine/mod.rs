//! The lane: one thread per device that owns its models, KV pages, scheduler and sampler.
//!
//! A [`Job`] goes in through [`Engine::submit`], its [`Event`]s come out of a channel. A lane runs one step at a
//! time and a step belongs to one model; what each step did goes to a [`StepSink`].

#[doc(hidden)]
pub mod bench;
mod board;
mod chain;
mod draw;
mod encode;
mod grammar;
mod host;
mod lane;
mod pages;
mod plan;
mod prefix;
mod request;
mod sampler;
#[doc(hidden)]
#[cfg(any(test, feature = "cuda"))]
pub mod sampling_cases;
mod sequence;
mod start;
mod stop;
mod turns;
mod weights;

pub use crate::model::{
    CallForm, CallParser, ChatMessage, Compute, CudaFacts, ModelSource, Precision, Said, Tool, cuda_device,
};
pub use board::{Occupancy, PageUse};
pub use grammar::{CallRule, Callable, Constraint, Instead};
pub use request::{
    EngineError, Event, FinishReason, Job, JobStream, JobTiming, Logprobs, Outcome, Sampling, TokenLogprob,
};
pub use start::{EngineSettings, HostSpec, ModelFacts, StartError, lane_devices};

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::{mpsc, oneshot};

use grammar::{Grammars, Guide};

use crate::energy::{Account, StepRecord};
use crate::model::{ChatTemplate, Tokenizer};
use crate::units::{Clock, DeviceId, ModelId, Moment, TokenId};

/// Who is told of every step. Called on the lane's thread: it must not block.
pub trait StepSink: Send + Sync {
    /// A step of `device` begins.
    fn begin_step(&self, device: DeviceId, at: Moment);
    /// The step begun last on its device has ended.
    fn record(&self, step: StepRecord);
}

/// All lanes and what is known of their models. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    models: Vec<ModelFacts>,
    desks: Vec<Desk>,
    board: Arc<board::Board>,
    /// Where texts go that the encoder is to read; `None` without one.
    reception: Option<encode::Reception>,
    max_queue: usize,
    clock: Clock,
}

/// What a model needs outside its lane.
struct Desk {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    grammars: Grammars,
    lane: Sender<lane::Command>,
}

impl Engine {
    /// The hosted models, in the order of the zoo: `models()[id.index()]` is model `id`.
    pub fn models(&self) -> &[ModelFacts] {
        &self.0.models
    }

    /// The tokens of a conversation, by the model's own template.
    pub fn chat_prompt(&self, model: ModelId, messages: &[ChatMessage]) -> Result<Vec<TokenId>, EngineError> {
        self.tool_prompt(model, messages, &[])
    }

    /// The same for a model that may call functions.
    pub fn tool_prompt(
        &self,
        model: ModelId,
        messages: &[ChatMessage],
        tools: &[Tool],
    ) -> Result<Vec<TokenId>, EngineError> {
        let desk = &self.0.desks[model.index()];
        let refuse = |reason: String| EngineError::Template {
            model: self.name(model),
            reason,
        };
        let template = desk.template.as_ref();
        let template = template.ok_or_else(|| {
            refuse("it has none; use /v1/completions with a prompt written for it".to_owned())
        })?;
        let text = template.render_conversation(messages, tools).map_err(refuse)?;
        desk.tokenizer.encode(&text, false).map_err(refuse)
    }

    /// The form in which a model writes calls of functions.
    pub fn call_form(&self, model: ModelId) -> CallForm {
        let template = self.0.desks[model.index()].template.as_ref();
        template.map_or(CallForm::TAGGED, ChatTemplate::call_form)
    }

    /// The tokens of a plain text, with what the tokenizer puts around it.
    pub fn encode(&self, model: ModelId, text: &str) -> Result<Vec<TokenId>, EngineError> {
        let encoded = self.0.desks[model.index()].tokenizer.encode(text, true);
        encoded.map_err(|reason| EngineError::Template {
            model: self.name(model),
            reason,
        })
    }

    /// Refuses at once what the queue has no room for. Who passes may still be refused by [`Engine::submit`].
    ///
    /// # Errors
    /// `QueueFull`.
    pub fn check_room(&self) -> Result<(), EngineError> {
        let board = &self.0.board;
        match board.full(self.0.max_queue) {
            None => Ok(()),
            Some(waiting) => Err(EngineError::QueueFull {
                waiting,
                retry_after: board.time_to_drain(),
            }),
        }
    }

    /// Puts a job in the queue of its model's lane.
    ///
    /// # Errors
    /// `EmptyPrompt`, `UnknownToken`, `ContextExceeded`, `NoHidden` or `Constraint` for what can never be served,
    /// `QueueFull` for what might be later.
    pub fn submit(&self, job: Job) -> Result<JobStream, EngineError> {
        self.check_size(&job)?;
        let guide = self.guide(&job)?;
        let model = job.model.index();
        let place = self
            .0
            .board
            .enter_queue(model, self.0.max_queue)
            .map_err(|waiting| EngineError::QueueFull {
                waiting,
                retry_after: self.0.board.time_to_drain(),
            })?;
        let (events, stream) = mpsc::unbounded_channel();
        let arrival = sequence::Arrival {
            job,
            guide,
            events,
            place,
            at: self.0.clock.now(),
        };
        self.0.desks[model]
            .lane
            .send(lane::Command::Submit(Box::new(arrival)))
            .map_err(|_| EngineError::ShuttingDown)?;
        Ok(stream)
    }

    /// Lets a model read a prompt, on the router's account: the outcome of the job carries its last token's hidden state.
    /// What it computes of the prompt stays in the prefix cache for whoever answers it.
    ///
    /// # Errors
    /// Those of [`Engine::submit`].
    pub fn read(&self, model: ModelId, prompt: Vec<TokenId>) -> Result<JobStream, EngineError> {
        self.submit(Job {
            account: Account::Router,
            model,
            prompt,
            max_tokens: 0,
            sampling: Sampling::default(),
            stop: Vec::new(),
            logprobs: None,
            constraint: None,
        })
    }

    /// Lets the encoder read a text, on the router's account. The vector never comes when it fails.
    ///
    /// # Errors
    /// `QueueFull`; `NoEncoder` where none was loaded.
    pub fn encode_text(&self, text: String) -> Result<oneshot::Receiver<Vec<f32>>, EngineError> {
        let reception = self.0.reception.as_ref().ok_or(EngineError::NoEncoder)?;
        reception.enter(text, self.0.max_queue)
    }

    /// Whether a job could be served at all, and the refusal if not.
    pub fn check(&self, job: &Job) -> Result<(), EngineError> {
        self.check_size(job)?;
        self.guide(job).map(drop)
    }

    /// Whether a model could keep an answer to a constraint.
    pub fn check_constraint(&self, model: ModelId, constraint: &Constraint) -> Result<(), EngineError> {
        self.compile(model, constraint).map(drop)
    }

    /// Compiles a job's constraint; its model remembers the latest ones.
    fn guide(&self, job: &Job) -> Result<Option<Guide>, EngineError> {
        let Some(constraint) = &job.constraint else {
            return Ok(None);
        };
        self.compile(job.model, constraint).map(Some)
    }

    fn compile(&self, model: ModelId, constraint: &Constraint) -> Result<Guide, EngineError> {
        let guide = self.0.desks[model.index()].grammars.guide(constraint);
        guide.map_err(|reason| EngineError::Constraint {
            model: self.name(model),
            reason,
        })
    }

    fn check_size(&self, job: &Job) -> Result<(), EngineError> {
        let facts = &self.0.models[job.model.index()];
        if job.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if job.max_tokens == 0 && facts.hidden_width.is_none() {
            return Err(EngineError::NoHidden {
                model: facts.name.clone(),
            });
        }
        if let Some(token) = job.prompt.iter().find(|t| t.0 as usize >= facts.vocabulary) {
            return Err(EngineError::UnknownToken {
                model: facts.name.clone(),
                token: token.0,
                vocabulary: facts.vocabulary,
            });
        }
        let length = job.prompt.len() + job.max_tokens as usize;
        if length > facts.max_context {
            return Err(EngineError::ContextExceeded {
                model: facts.name.clone(),
                prompt_tokens: job.prompt.len(),
                max_tokens: job.max_tokens as usize,
                max_context: facts.max_context,
            });
        }
        Ok(())
    }

    /// How busy each model is, in zoo order.
    pub fn occupancy(&self) -> Vec<Occupancy> {
        (0..self.0.models.len())
            .map(|m| self.0.board.occupancy(m))
            .collect()
    }

    /// KV pages of each model, in zoo order.
    pub fn pages(&self) -> Vec<PageUse> {
        (0..self.0.models.len()).map(|m| self.0.board.pages(m)).collect()
    }

    /// Ends every lane; jobs still running are failed.
    pub fn shutdown(&self) {
        for desk in &self.0.desks {
            // A lane that is gone already needs no telling.
            let _ = desk.lane.send(lane::Command::Stop);
        }
    }

    fn name(&self, model: ModelId) -> String {
        self.0.models[model.index()].name.clone()
    }
}
