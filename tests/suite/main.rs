//! Integration tests, one binary: each module asks one question of the whole.

mod batching;
mod http;
mod logits;
mod restart;
mod server;
mod support;
