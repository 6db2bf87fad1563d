//! The HTTP door: OpenAI's wire, the extension that tells joules and choices, limits, keys and metrics.
//!
//! From outside in: [`app`](app) (routes), `handlers` (an endpoint each), `wire` (JSON to plain asks and answers to JSON), `desk` (the
//! life of a request: route, run, book, log, judge). `fault` is the one place where errors become a status.
//! No type of the HTTP library leaves this room but through [`router`], which hands over the finished application.

mod app;
mod auth;
mod body;
mod dashboard;
mod desk;
mod devices;
mod docs;
mod fault;
mod handlers;
mod limits;
mod listen;
mod loading;
mod message_stream;
mod metrics;
mod patience;
mod query;
mod request_id;
mod response_stream;
mod scrape;
mod seats;
mod sse;
mod tap;
mod wire;

pub use app::{AppState, router};
pub use auth::Keys;
pub use desk::{Answer, Desk, DeskError, DeskSetup, Eyes, Piece, StartError, Summary, saved_ledger};
pub use limits::Limits;
pub use listen::{Tls, TlsError, serve};
pub use loading::{Loading, LoadingPart};
pub use metrics::Metrics;
pub use tap::StepTap;
pub use wire::{Ask, Delivery, Extension, MatchRule, Prompt, Reference, SamplingWish, Target, Usage};
