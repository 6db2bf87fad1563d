// Norm of query and key heads, rotary embedding, and the write of keys and values to their pages. One warp a head.

#include "common/number.cuh"
#include "common/reduce.cuh"

constexpr uint32_t HEADS_A_BLOCK = 4;
constexpr uint32_t MOST_DIM = 256;

template <class T>
__device__ __forceinline__ void rope_kv(T *qkv, T *keys, T *values, const float *cos, const float *sin,
                                        const uint32_t *table_rows, const uint32_t *slots, const float *q_norm,
                                        const float *k_norm, uint32_t q_heads, uint32_t kv_heads, uint32_t dim,
                                        uint32_t rotary_dim, uint32_t interleaved, float eps) {
    SHARED_ARRAY(float, heads, HEADS_A_BLOCK *MOST_DIM);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t head = blockIdx.y * HEADS_A_BLOCK + warp, all_heads = q_heads + 2 * kv_heads;
    const uint64_t row = blockIdx.x;
    const uint32_t slot = slots[row];
    // Whole warps leave here: what follows meets only within a warp.
    if (slot == NO_ROW || head >= all_heads) return;

    T *from = qkv + (row * all_heads + head) * dim;
    const bool is_query = head < q_heads, is_value = head >= q_heads + kv_heads;
    T *to = from;
    if (!is_query) {
        const uint32_t kv_head = is_value ? head - q_heads - kv_heads : head - q_heads;
        const uint64_t page = slot / PAGE_TOKENS, offset = slot % PAGE_TOKENS;
        to = (is_value ? values : keys) + ((page * kv_heads + kv_head) * PAGE_TOKENS + offset) * dim;
    }
    const bool wide = on_16_bytes(from), wide_to = on_16_bytes(to);
    const uint32_t at = lane * 8;
    float mine[8];
    // A lane holds eight values; 32 lanes hold the widest head.
    if (at < dim) read8<T>(from, at, dim, wide, mine);
    if (is_value) {
        if (at < dim) write8(to, at, dim, wide_to, mine);
        return;
    }
    const float *weight = is_query ? q_norm : k_norm;
    if (weight) {
        float squares = 0.0f;
        if (at < dim) {
#pragma unroll
            for (int i = 0; i < 8; i++) squares += mine[i] * mine[i];
        }
        const float inverse = rsqrtf(warp_sum(squares) / static_cast<float>(dim) + eps);
        if (at < dim) {
            float weights[8];
            read8(weight, at, dim, on_16_bytes(weight), weights);
#pragma unroll
            for (int i = 0; i < 8; i++) mine[i] *= inverse * weights[i];
        }
    }
    if (rotary_dim) {
        float *own = heads + warp * MOST_DIM;
        if (at < dim) {
#pragma unroll
            for (int i = 0; i < 8; i++) own[at + i] = mine[i];
        }
        __syncwarp();
        const uint32_t half = rotary_dim / 2;
        const uint64_t table = static_cast<uint64_t>(table_rows[row]) * half;
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t place = at + i;
            if (place >= rotary_dim) break;
            const uint32_t pair = interleaved ? place / 2 : place % half;
            const bool second = interleaved ? place % 2 : place >= half;
            const uint32_t partner = interleaved ? place ^ 1 : (second ? place - half : place + half);
            const float turned = own[partner] * sin[table + pair];
            mine[i] = mine[i] * cos[table + pair] + (second ? turned : -turned);
        }
    }
    if (at < dim) write8(to, at, dim, wide_to, mine);
}

#define ROPE_KERNELS(T)                                                                                                \
    KERNEL(128)                                                                                                        \
    rope_kv_##T(T *qkv, T *keys, T *values, const float *cos, const float *sin, const uint32_t *table_rows,            \
                const uint32_t *slots, const float *q_norm, const float *k_norm, uint32_t q_heads, uint32_t kv_heads,  \
                uint32_t dim, uint32_t rotary_dim, uint32_t interleaved, float eps) {                                  \
        rope_kv(qkv, keys, values, cos, sin, table_rows, slots, q_norm, k_norm, q_heads, kv_heads, dim, rotary_dim,    \
                interleaved, eps);                                                                                     \
    }                                                                                                                  \
    REGISTER_KERNEL(rope_kv_##T)

ROPE_KERNELS(bf16)
ROPE_KERNELS(f16)
