//! Integration tests, one binary: each module asks one question of the whole.

mod batching;
mod logits;
mod support;
