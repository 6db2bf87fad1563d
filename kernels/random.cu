// Random numbers by counter, for weights of which only the shape matters. `model/random.rs` is the rule.

#include "common/number.cuh"

template <class T>
__device__ __forceinline__ void random_numbers(T *out, uint64_t n, uint64_t seed, float scale, float offset) {
    const uint64_t first = static_cast<uint64_t>(blockIdx.x) * 2048;
    for (uint64_t at = first + threadIdx.x; at < n && at < first + 2048; at += blockDim.x) {
        uint64_t z = seed + at * 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        z ^= z >> 31;
        const float uniform = static_cast<float>(static_cast<uint32_t>(z >> 40)) / 8388608.0f - 1.0f;
        out[at] = from_float<T>(offset + scale * uniform);
    }
}

#define RANDOM_KERNEL(T)                                                                                               \
    KERNEL(256) random_##T(T *out, uint64_t n, uint64_t seed, float scale, float offset) {                             \
        random_numbers(out, n, seed, scale, offset);                                                                   \
    }                                                                                                                  \
    REGISTER_KERNEL(random_##T)

RANDOM_KERNEL(bf16)
RANDOM_KERNEL(f16)
