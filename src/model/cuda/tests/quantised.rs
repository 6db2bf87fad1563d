//! Quantised weights by few rows and by many: the same matrix in two ways.
