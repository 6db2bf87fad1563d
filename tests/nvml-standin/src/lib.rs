//! Stands in for NVIDIA's `libnvidia-ml.so` in tests.
