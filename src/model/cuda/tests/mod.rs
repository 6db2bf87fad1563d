//! The whole decoder on a device whose kernels run on the CPU: against transformers' numbers, and against itself in other
//! company.

mod answers;
mod arena;
mod company;
mod fixtures;
mod memory;
mod quantised;
