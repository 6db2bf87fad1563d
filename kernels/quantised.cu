// From GGUF's blocks to packed ones, and from those to half floats for products with many rows.

#include "common/packed.cuh"

template <class Kind>
__device__ __forceinline__ void repack(uint8_t *packed, const uint8_t *source, uint64_t n, uint32_t k) {
    const uint32_t blocks = k / Kind::VALUES;
    const uint64_t all = n * blocks, stride = static_cast<uint64_t>(gridDim.x) * blockDim.x;
    for (uint64_t index = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; index < all; index += stride)
        Kind::repack(packed, source + index * Kind::BLOCK, all, index, blocks);
}

template <class Kind, class T>
__device__ __forceinline__ void dequantise(T *out, const uint8_t *packed, uint64_t n, uint32_t k) {
    const uint32_t blocks = k / Kind::VALUES;
    const uint64_t at = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (at >= n * k) return;
    const uint64_t row = at / k;
    const uint32_t column = static_cast<uint32_t>(at % k);
    float values[8];
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) values[i] = Kind::value(packed, n * blocks, row, blocks, column + i);
    write8(out + row * k, column, k, on_16_bytes(out), values);
}

#define REPACK_KERNEL(name, Kind)                                                                                      \
    KERNEL(256) repack_##name(uint8_t *packed, const uint8_t *source, uint64_t n, uint32_t k) {                        \
        repack<Kind>(packed, source, n, k);                                                                            \
    }                                                                                                                  \
    REGISTER_KERNEL(repack_##name)

#define DEQUANTISE_KERNEL(name, Kind, T)                                                                               \
    KERNEL(256) dequantise_##name##_##T(T *out, const uint8_t *packed, uint64_t n, uint32_t k) {                       \
        dequantise<Kind>(out, packed, n, k);                                                                           \
    }                                                                                                                  \
    REGISTER_KERNEL(dequantise_##name##_##T)

#define QUANTISED_KERNELS(name, Kind)                                                                                  \
    REPACK_KERNEL(name, Kind)                                                                                          \
    DEQUANTISE_KERNEL(name, Kind, bf16)                                                                                \
    DEQUANTISE_KERNEL(name, Kind, f16)

QUANTISED_KERNELS(q8_0, Q8_0)
QUANTISED_KERNELS(q4_k, Q4_K)
QUANTISED_KERNELS(q6_k, Q6_K)
