//! messplus: an inference server that hosts a zoo of open-weight models in one process, measures the joules of
//! every request and routes each one to the cheapest model that keeps a promised share of answers satisfying.

/// The words every room shares: units of measure and identities.
pub mod units;

/// Repeated measurements drawn together.
pub mod statistics;

/// What all plots share: sheets, labels, legends.
mod paint;

/// The zoo file: types, validation with line numbers.
pub mod config;

/// A model's name to local files: a folder, the Hugging Face cache, the built-in demo.
pub mod hub;

/// Decoders on candle: packed-batch forward, weights, chat templates, tokenizers.
pub mod model;

/// Meters, sampling thread, attribution and ledger.
pub mod energy;

/// The lane: scheduler, KV pages, sampler, incremental detokenizer.
pub mod engine;

/// SQLite: requests, decisions, feedback, snapshots.
pub mod store;

/// MESS+: features, predictor, cost model, virtual queue, exploration, policies.
pub mod router;

/// Profiling runs: joules by model, batch and length, their plots and report.
pub mod profile;

/// Recorded traces through the router: policies against references, tables and plots.
pub mod replay;

/// The HTTP door: OpenAI wire types, SSE, auth, limits, metrics.
pub mod server;

/// One file a verb: serve, run, check, profile, load, replay.
pub mod cli;
