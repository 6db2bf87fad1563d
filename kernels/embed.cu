// Rows of the embedding table, dense or packed, times a scale. One block a row.

#include "common/packed.cuh"

template <class T>
__device__ __forceinline__ void embed(T *out, const T *table, const uint32_t *ids, uint32_t hidden, float scale) {
    table += static_cast<uint64_t>(ids[blockIdx.x]) * hidden;
    out += static_cast<uint64_t>(blockIdx.x) * hidden;
    const bool wide = on_16_bytes(table), wide_out = on_16_bytes(out);
    for (uint32_t at = threadIdx.x * 8; at < hidden; at += blockDim.x * 8) {
        float values[8];
        read8(table, at, hidden, wide, values);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] *= scale;
        write8(out, at, hidden, wide_out, values);
    }
}

template <class Kind, class T>
__device__ __forceinline__ void embed_packed(T *out, const uint8_t *table, const uint32_t *ids, uint32_t hidden,
                                             uint32_t vocabulary, float scale) {
    const uint64_t row = ids[blockIdx.x];
    const uint32_t blocks = hidden / Kind::VALUES;
    out += static_cast<uint64_t>(blockIdx.x) * hidden;
    const bool wide = on_16_bytes(out);
    for (uint32_t at = threadIdx.x * 8; at < hidden; at += blockDim.x * 8) {
        float values[8];
#pragma unroll
        for (uint32_t i = 0; i < 8; i++)
            values[i] =
                scale * Kind::value(table, static_cast<uint64_t>(vocabulary) * blocks, row, blocks, at + i);
        write8(out, at, hidden, wide, values);
    }
}

#define EMBED_PACKED_KERNEL(name, Kind, T)                                                                             \
    KERNEL(256)                                                                                                        \
    embed_##name##_##T(T *out, const uint8_t *table, const uint32_t *ids, uint32_t hidden, uint32_t vocabulary,        \
                       float scale) {                                                                                  \
        embed_packed<Kind>(out, table, ids, hidden, vocabulary, scale);                                                \
    }                                                                                                                  \
    REGISTER_KERNEL(embed_##name##_##T)

#define EMBED_KERNELS(T)                                                                                               \
    KERNEL(256) embed_##T(T *out, const T *table, const uint32_t *ids, uint32_t hidden, float scale) {                 \
        embed(out, table, ids, hidden, scale);                                                                         \
    }                                                                                                                  \
    REGISTER_KERNEL(embed_##T)                                                                                         \
    EMBED_PACKED_KERNEL(q8_0, Q8_0, T)                                                                                 \
    EMBED_PACKED_KERNEL(q4_k, Q4_K, T)                                                                                 \
    EMBED_PACKED_KERNEL(q6_k, Q6_K, T)

EMBED_KERNELS(bf16)
EMBED_KERNELS(f16)
