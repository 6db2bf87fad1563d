mod config;
mod header;
mod tokenizer;
mod weights;
mod writer;
