//! Integration tests, one binary: each module asks one question of the whole.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used)]

mod architectures;
mod batching;
mod companions;
mod constrained;
mod crowd;
mod damaged;
mod door;
mod encoder;
mod energy;
mod features;
mod gguf;
mod http;
mod hub;
mod labels;
mod logits;
mod meter_overhead;
mod metrics;
mod nvml;
mod openapi;
mod profile;
mod restart;
mod server;
mod support;
mod wire;
