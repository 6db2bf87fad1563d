mod header;
mod writer;
