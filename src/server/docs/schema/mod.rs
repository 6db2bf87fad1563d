//! The shapes of bodies, for the document alone: what is read is read by `wire`, what is sent is made there, and tests hold
//! real answers against these shapes.

// Nobody makes one of them.
#![expect(dead_code)]

pub(crate) mod answer;
pub(crate) mod energy;
pub(crate) mod error;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod request;
pub(crate) mod responses;
pub(crate) mod router;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod tools;
