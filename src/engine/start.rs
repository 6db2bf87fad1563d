//! Starting the lanes: which model goes where, loading, the memory for keys and values.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::board::Board;
use super::encode::Reception;
use super::grammar::Grammars;
use super::host::{Host, Memory};
use super::lane::{Command, Lane};
use super::pages::KvBudget;
use super::prefix::Uses;
use super::request::Sampling;
use super::{Desk, Engine, Shared, StepSink};
use crate::energy::{Account, StepRecord, StepRow};
use crate::model::{
    Batch, Compute, Encoder, Hardware, HostedModel, LoadedModel, ModelError, ModelSource, PAGE_TOKENS,
    Precision, cuda_need,
};
use crate::units::{Clock, DeviceId, ModelId, Moment, TokenId};

/// A model to host.
#[derive(Clone, Debug)]
pub struct HostSpec {
    pub name: String,
    pub source: ModelSource,
    pub compute: Compute,
    pub precision: Precision,
    /// Fewer tokens than the model was made for; `None` takes all.
    pub max_context: Option<usize>,
    /// What it adds to the bytes for keys and values that the models of its device share.
    pub kv_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Jobs that may wait; one more is refused.
    pub max_queue: usize,
    /// Tokens of one step.
    pub step_tokens: usize,
    /// The same on a CUDA device, where few tokens leave it idle and memory for all of them is taken at the start.
    pub cuda_step_tokens: usize,
    /// Sequences of one model that run together.
    pub max_rows: usize,
    /// Keep the keys and values of what was computed, for prompts that begin alike.
    pub prefix_cache: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            max_queue: 256,
            step_tokens: 512,
            cuda_step_tokens: 2048,
            max_rows: 256,
            prefix_cache: true,
        }
    }
}

/// What is known of a hosted model.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    pub id: ModelId,
    pub name: String,
    pub architecture: String,
    pub parameters: u64,
    pub device: DeviceId,
    pub device_name: String,
    pub dtype: String,
    /// Tokens of prompt and answer together.
    pub max_context: usize,
    pub vocabulary: usize,
    pub weight_bytes: u64,
    /// Bytes a token's keys and values take.
    pub kv_bytes_per_token: u64,
    /// What the model's authors advise where a request says nothing.
    pub default_sampling: Sampling,
    pub end_tokens: Vec<TokenId>,
    pub has_chat_template: bool,
    /// Numbers of a token's hidden state; `None` where it does not show them.
    pub hidden_width: Option<usize>,
    /// Whether its sequences run side by side; else one after the other.
    pub batched: bool,
}

impl ModelFacts {
    /// Bytes that the keys and values of one sequence of `tokens` take, in whole pages.
    pub fn kv_bytes_per_sequence(&self, tokens: usize) -> u64 {
        (tokens.div_ceil(PAGE_TOKENS) * PAGE_TOKENS) as u64 * self.kv_bytes_per_token
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("model '{name}': {source}")]
    Model { name: String, source: ModelError },
    #[error(
        "model '{name}' needs {needed} MiB of keys and values for its context of {context} tokens, but the device \
         has {budget} MiB for all models: lower max_context or give kv_cache more"
    )]
    KvTooSmall {
        name: String,
        needed: u64,
        context: usize,
        budget: u64,
    },
    #[error("the router's encoder: {0}")]
    Encoder(ModelError),
    #[error("the thread of {device} cannot be started: {reason}")]
    Thread { device: String, reason: String },
}

/// The devices that `specs` use, in lane order, with their names.
pub fn lane_devices(specs: &[HostSpec]) -> Vec<(DeviceId, Compute, String)> {
    let mut devices: Vec<Compute> = Vec::new();
    for spec in specs {
        if !devices.contains(&spec.compute) {
            devices.push(spec.compute);
        }
    }
    let name = |compute: &Compute| match compute {
        Compute::Cpu => "cpu".to_owned(),
        Compute::Cuda(ordinal) => format!("cuda:{ordinal}"),
    };
    (0..)
        .map(DeviceId)
        .zip(devices)
        .map(|(id, compute)| (id, compute, name(&compute)))
        .collect()
}

impl Engine {
    /// Loads every model on its device's lane and starts the lanes. Blocks until all are ready; on a failure
    /// nothing is left running.
    pub fn start(
        specs: &[HostSpec],
        settings: EngineSettings,
        clock: Clock,
        sink: Arc<dyn StepSink>,
    ) -> Result<Self, StartError> {
        Self::start_with_encoder(specs, None, settings, clock, sink)
    }

    /// The same with an encoder beside the models, on the first lane.
    pub fn start_with_encoder(
        specs: &[HostSpec],
        mut encoder: Option<ModelSource>,
        settings: EngineSettings,
        clock: Clock,
        sink: Arc<dyn StepSink>,
    ) -> Result<Self, StartError> {
        let mut reception = None;
        let board = Arc::new(Board::new(specs.len()));
        let mut loaded: Vec<Option<(ModelFacts, Desk)>> = specs.iter().map(|_| None).collect();
        for (device, compute, device_name) in lane_devices(specs) {
            let mine: Vec<(ModelId, HostSpec)> = (0..)
                .map(ModelId)
                .zip(specs.iter().cloned())
                .filter(|(_, spec)| spec.compute == compute)
                .collect();
            let (commands, inbox) = channel();
            let (report, reports) = channel();
            let encoder = encoder.take();
            if encoder.is_some() {
                reception = Some(Reception::new(commands.clone()));
            }
            let opening = Opening {
                device,
                device_name: device_name.clone(),
                specs: mine,
                encoder,
                settings,
                clock,
                sink: sink.clone(),
                board: board.clone(),
                commands: commands.clone(),
            };
            let spawned = thread::Builder::new()
                .name(format!("lane {device_name}"))
                .spawn(move || {
                    // Kept until the lane ends: a pool that is dropped takes its threads along.
                    let _pool = join_compute_pool();
                    match opening.load() {
                        Ok((lane, facts)) => {
                            // Whoever started the lane waits for this; when it is gone the inbox is closed too.
                            let _ = report.send(Ok(facts));
                            lane.run(&inbox);
                        }
                        Err(error) => {
                            let _ = report.send(Err(error));
                        }
                    }
                });
            let gone = |reason: String| StartError::Thread {
                device: device_name.clone(),
                reason,
            };
            spawned.map_err(|e| gone(e.to_string()))?;
            let facts = reports
                .recv()
                .map_err(|_| gone("it ended while loading".to_owned()))??;
            for (facts, desk) in facts {
                let place = facts.id.index();
                loaded[place] = Some((facts, desk));
            }
        }
        let (models, desks) = loaded
            .into_iter()
            .map(|m| m.expect("every model belongs to the lane of its device"))
            .unzip();
        Ok(Self(Arc::new(Shared {
            models,
            desks,
            board,
            reception,
            max_queue: settings.max_queue,
            clock,
        })))
    }
}

/// Makes the lane's thread a worker of the pool its tensors are computed in. From outside, every parallel operation,
/// be it over a single row, would cost a handover to another thread and a sleep until it comes back.
fn join_compute_pool() -> Option<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
    match pool.thread_name(|n| format!("compute {n}")).build() {
        Ok(pool) => Some(pool),
        Err(error) => {
            // Without a pool of its own the lane computes in the process's.
            tracing::warn!(%error, "the lane computes from outside the thread pool, which is slower");
            None
        }
    }
}

fn hosted(spec: &HostSpec) -> HostedModel {
    HostedModel {
        source: spec.source.clone(),
        precision: spec.precision,
        max_context: spec.max_context,
    }
}

/// All a lane's thread needs to load its models.
struct Opening {
    device: DeviceId,
    device_name: String,
    specs: Vec<(ModelId, HostSpec)>,
    encoder: Option<ModelSource>,
    settings: EngineSettings,
    clock: Clock,
    sink: Arc<dyn StepSink>,
    board: Arc<Board>,
    commands: Sender<Command>,
}

impl Opening {
    fn load(self) -> Result<(Lane, Vec<(ModelFacts, Desk)>), StartError> {
        let kv_bytes = self.specs.iter().map(|(_, spec)| spec.kv_bytes).sum();
        let memory = Memory {
            budget: KvBudget::new(kv_bytes),
            uses: self.settings.prefix_cache.then(Uses::default),
        };
        let hardware = self.open_hardware(kv_bytes)?;
        let encoder = self.load_encoder()?;
        let mut hosts = Vec::new();
        let mut outside = Vec::new();
        for (id, spec) in &self.specs {
            let mut loaded = self.load_one(*id, spec, &hardware)?;
            let facts = self.facts(*id, spec, &loaded);
            let needed = facts.max_context.div_ceil(PAGE_TOKENS) as u64 * loaded.decoder.bytes_per_page();
            if needed > kv_bytes {
                return Err(StartError::KvTooSmall {
                    name: spec.name.clone(),
                    needed: needed.div_ceil(1 << 20),
                    context: facts.max_context,
                    budget: kv_bytes >> 20,
                });
            }
            tracing::info!(
                model = spec.name,
                parameters = facts.parameters,
                device = self.device_name,
                "loaded"
            );
            outside.push((
                facts,
                Desk {
                    tokenizer: loaded.tokenizer.clone(),
                    template: loaded.template.take(),
                    grammars: Grammars::new(
                        loaded.tokenizer.clone(),
                        loaded.vocabulary,
                        loaded.end_tokens.clone(),
                    ),
                    lane: self.commands.clone(),
                },
            ));
            hosts.push(Host::new(
                *id,
                spec.name.clone(),
                loaded.decoder,
                loaded.tokenizer,
                loaded.end_tokens,
                memory.clone(),
                self.settings.max_rows,
            ));
        }
        let step_tokens = hardware.step_tokens(self.settings.step_tokens);
        let lane = Lane::new(
            self.device,
            hosts,
            memory.budget,
            step_tokens,
            self.board,
            self.sink,
            self.clock,
        );
        let lane = match encoder {
            Some(encoder) => lane.with_encoder(encoder),
            None => lane,
        };
        Ok((lane, outside))
    }

    /// Loads a model and lets it compute once, so that the first request meets warm memory. The joules of both
    /// are the account `load`'s.
    fn load_one(&self, id: ModelId, spec: &HostSpec, hardware: &Hardware) -> Result<LoadedModel, StartError> {
        let start = self.clock.now();
        self.sink.begin_step(self.device, start);
        let loaded = hardware.load(&hosted(spec)).and_then(|mut model| {
            let mut batch = Batch::default();
            batch.push(&[TokenId(0)], 0, 1, &[0], true);
            model.decoder.materialise_page(0);
            model.decoder.forward(&batch)?;
            model.decoder.release_page(0);
            Ok(model)
        });
        self.record_load(id, start);
        loaded.map_err(|source| StartError::Model {
            name: spec.name.clone(),
            source,
        })
    }

    /// Opens what the lane computes on. A model's refusal has its name, the device's has the first one's.
    fn open_hardware(&self, kv_bytes: u64) -> Result<Hardware, StartError> {
        let Some((_, first)) = self.specs.first() else {
            return Ok(Hardware::Cpu);
        };
        let models: Vec<_> = self.specs.iter().map(|(_, spec)| hosted(spec)).collect();
        let (tokens, rows) = (self.settings.cuda_step_tokens, self.settings.max_rows);
        if first.compute != Compute::Cpu {
            for ((_, spec), model) in self.specs.iter().zip(&models) {
                cuda_need(model, tokens, rows).map_err(|source| StartError::Model {
                    name: spec.name.clone(),
                    source,
                })?;
            }
        }
        Hardware::open(first.compute, &models, kv_bytes, tokens, rows).map_err(|source| StartError::Model {
            name: first.name.clone(),
            source,
        })
    }

    /// Loads the encoder and lets it read once, on the account `load`.
    fn load_encoder(&self) -> Result<Option<Encoder>, StartError> {
        let Some((source, (id, _))) = self.encoder.as_ref().zip(self.specs.first()) else {
            return Ok(None);
        };
        let start = self.clock.now();
        self.sink.begin_step(self.device, start);
        let loaded = Encoder::load(source).and_then(|encoder| encoder.encode("warm").map(|_| encoder));
        self.record_load(*id, start);
        loaded.map(Some).map_err(StartError::Encoder)
    }

    fn record_load(&self, model: ModelId, start: Moment) {
        let row = StepRow {
            account: Account::Load,
            prefill_tokens: 0,
            decode_tokens: 0,
            context: 0,
        };
        self.sink.record(StepRecord {
            device: self.device,
            model,
            start,
            end: self.clock.now(),
            rows: vec![row],
        });
    }

    fn facts(&self, id: ModelId, spec: &HostSpec, loaded: &LoadedModel) -> ModelFacts {
        let default = Sampling::default();
        ModelFacts {
            id,
            name: spec.name.clone(),
            architecture: loaded.architecture.clone(),
            parameters: loaded.parameters,
            device: self.device,
            device_name: self.device_name.clone(),
            dtype: loaded.precision.clone(),
            max_context: spec
                .max_context
                .map_or(loaded.max_positions, |m| m.min(loaded.max_positions)),
            vocabulary: loaded.vocabulary,
            weight_bytes: loaded.weight_bytes,
            kv_bytes_per_token: loaded.decoder.bytes_per_page() / PAGE_TOKENS as u64,
            default_sampling: Sampling {
                temperature: loaded.temperature.unwrap_or(default.temperature),
                top_p: loaded.top_p.unwrap_or(default.top_p),
                top_k: loaded.top_k.unwrap_or(default.top_k),
                ..default
            },
            end_tokens: loaded.end_tokens.clone(),
            has_chat_template: loaded.template.is_some(),
            hidden_width: loaded.decoder.hidden_width(),
            batched: loaded.batched,
        }
    }
}
