// Mixtures of experts: which experts a token goes to, places sorted by expert, products with every expert's matrix, and
// the weighted sum. Nothing of it asks the host how many tokens an expert has.

#include "common/multiply.cuh"
#include "common/reduce.cuh"

constexpr uint32_t MOST_EXPERTS = 256, MOST_USED = 32;
constexpr uint32_t SORT_WARPS = 32;

// One warp a token; of equal shares the lowest expert is taken first.
template <class T>
__device__ __forceinline__ void route(float *weights, uint32_t *experts, const T *logits, uint32_t count, uint32_t used,
                                      uint32_t renormalise) {
    constexpr int EACH = MOST_EXPERTS / WARP;
    const uint32_t lane = threadIdx.x;
    const uint64_t token = blockIdx.x;
    logits += token * count;
    float shares[EACH], highest = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const uint32_t expert = i * WARP + lane;
        shares[i] = expert < count ? to_float(logits[expert]) : -INFINITY;
        highest = fmaxf(highest, shares[i]);
    }
    highest = warp_max(highest);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        shares[i] = i * WARP + lane < count ? expf(shares[i] - highest) : 0.0f;
        sum += shares[i];
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < EACH; i++) shares[i] = i * WARP + lane < count ? shares[i] / sum : -1.0f;
    float mine = 0.0f, total = 0.0f;
    uint32_t my_expert = 0;
    for (uint32_t rank = 0; rank < used; rank++) {
        float best = -2.0f;
        uint32_t expert = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (shares[i] > best) {
                best = shares[i];
                expert = i * WARP + lane;
            }
#pragma unroll
        for (int with = 16; with; with /= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, best, with);
            const uint32_t of = __shfl_xor_sync(ALL_LANES, expert, with);
            if (other > best || (other == best && of < expert)) {
                best = other;
                expert = of;
            }
        }
        total += best;
        if (lane == rank) {
            mine = best;
            my_expert = expert;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (i * WARP + lane == expert) shares[i] = -1.0f;
    }
    if (lane < used) {
        weights[token * used + lane] = renormalise ? mine / total : mine;
        experts[token * used + lane] = my_expert;
    }
}

#define ROUTE_KERNEL(T, name)                                                                                          \
    KERNEL(32)                                                                                                         \
    moe_route_##name(float *weights, uint32_t *experts, const T *logits, uint32_t count, uint32_t used,                \
                     uint32_t renormalise) {                                                                           \
        route(weights, experts, logits, count, used, renormalise);                                                     \
    }                                                                                                                  \
    REGISTER_KERNEL(moe_route_##name)

ROUTE_KERNEL(bf16, bf16)
ROUTE_KERNEL(f16, f16)
ROUTE_KERNEL(float, f32)

// Counting sort: every warp counts its own stretch of places, and writes them behind those of the warps before it.
KERNEL(1024)
moe_sort(uint32_t *places, uint32_t *starts, const uint32_t *experts, uint32_t pairs, uint32_t count) {
    SHARED_ARRAY(uint32_t, counts, SORT_WARPS *MOST_EXPERTS);
    SHARED_ARRAY(uint32_t, begins, MOST_EXPERTS + 1);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t each = (pairs + SORT_WARPS - 1) / SORT_WARPS;
    const uint32_t from = min(warp * each, pairs), to = min(from + each, pairs);
    for (uint32_t i = threadIdx.x; i < SORT_WARPS * MOST_EXPERTS; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    uint32_t *own = counts + warp * MOST_EXPERTS;
    for (uint32_t at = from; at < to; at += WARP) {
        if (at + lane < to) atomicAdd(&own[experts[at + lane]], 1u);
    }
    __syncthreads();
    if (threadIdx.x < count) {
        uint32_t all = 0;
        for (uint32_t w = 0; w < SORT_WARPS; w++) all += counts[w * MOST_EXPERTS + threadIdx.x];
        begins[threadIdx.x + 1] = all;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        begins[0] = 0;
        for (uint32_t e = 0; e < count; e++) begins[e + 1] += begins[e];
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e <= count; e += blockDim.x) starts[e] = begins[e];
    if (threadIdx.x < count) {
        uint32_t next = begins[threadIdx.x];
        for (uint32_t w = 0; w < SORT_WARPS; w++) {
            const uint32_t here = counts[w * MOST_EXPERTS + threadIdx.x];
            counts[w * MOST_EXPERTS + threadIdx.x] = next;
            next += here;
        }
    }
    __syncthreads();
    for (uint32_t at = from; at < to; at += WARP) {
        // Lanes past the end stand for an expert nobody has.
        const uint32_t expert = at + lane < to ? experts[at + lane] : NO_ROW;
        const uint32_t alike = __match_any_sync(ALL_LANES, expert);
        const uint32_t before = __popc(alike & ((1u << lane) - 1));
        const uint32_t next = expert != NO_ROW ? own[expert] : 0;
        __syncwarp();
        if (expert != NO_ROW) {
            places[next + before] = at + lane;
            if (before == 0) own[expert] = next + __popc(alike);
        }
        __syncwarp();
    }
}
REGISTER_KERNEL(moe_sort)

template <class T, class Kind, int NT>
__device__ __forceinline__ void expert_products(T *out, const T *x, const void *w, const uint32_t *places,
                                                const uint32_t *starts, uint32_t n, uint32_t k, uint32_t x_divisor) {
    SHARED_ARRAY(float, scratch, PRODUCT_WARPS *TILE_ROWS * 8 * NT);
    const uint32_t expert = blockIdx.y, first = blockIdx.x * TILE_ROWS;
    const uint32_t end = starts[expert + 1];
    for (uint32_t at = starts[expert]; at < end; at += 8 * NT) {
        multiply_tile<T, Kind, NT>(
            static_cast<const uint8_t *>(w), static_cast<uint64_t>(n) * gridDim.y,
            static_cast<uint64_t>(expert) * n + first, n - first, k, end - at, scratch,
            [&](uint32_t row) { return x + static_cast<uint64_t>(places[at + row] / x_divisor) * k; },
            [&](uint32_t row, uint32_t column, float sum) {
                out[static_cast<uint64_t>(places[at + row]) * n + first + column] = from_float<T>(sum);
            });
        __syncthreads();
    }
}

#define EXPERT_KERNEL(name, T, Kind, M)                                                                                \
    KERNEL(256)                                                                                                        \
    moe_gemv_##name##_m##M(T *out, const T *x, const void *w, const uint32_t *places, const uint32_t *starts,          \
                           uint32_t n, uint32_t k, uint32_t x_divisor) {                                               \
        expert_products<T, Kind, M / 8>(out, x, w, places, starts, n, k, x_divisor);                                   \
    }                                                                                                                  \
    REGISTER_KERNEL(moe_gemv_##name##_m##M)

// Experts in the order of their numbers, as the CPU adds them.
template <class T>
__device__ __forceinline__ void combine(T *out, const T *x, const float *weights, const uint32_t *experts, uint32_t used,
                                        uint32_t hidden) {
    SHARED_ARRAY(uint32_t, order, MOST_USED);
    const uint64_t token = blockIdx.x;
    if (threadIdx.x < used) {
        const uint32_t own = experts[token * used + threadIdx.x];
        uint32_t before = 0;
        for (uint32_t i = 0; i < used; i++) before += experts[token * used + i] < own;
        order[before] = threadIdx.x;
    }
    __syncthreads();
    const uint32_t at = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (at >= hidden) return;
    float sums[8] = {};
    for (uint32_t i = 0; i < used; i++) {
        const uint64_t place = token * used + order[i];
        const T *row = x + place * hidden;
        const float weight = weights[place];
        float values[8];
        read8(row, at, hidden, on_16_bytes(row), values);
#pragma unroll
        for (int v = 0; v < 8; v++) sums[v] += weight * values[v];
    }
    out += token * hidden;
    write8(out, at, hidden, on_16_bytes(out), sums);
}

#define MOE_KERNELS(T)                                                                                                 \
    EXPERT_KERNEL(T, T, Dense<T>, 8)                                                                                   \
    EXPERT_KERNEL(T, T, Dense<T>, 32)                                                                                  \
    EXPERT_KERNEL(q8_0_##T, T, PackedQ8_0<T>, 8)                                                                       \
    EXPERT_KERNEL(q8_0_##T, T, PackedQ8_0<T>, 32)                                                                      \
    EXPERT_KERNEL(q4_k_##T, T, PackedQ4_K<T>, 8)                                                                       \
    EXPERT_KERNEL(q4_k_##T, T, PackedQ4_K<T>, 32)                                                                      \
    EXPERT_KERNEL(q6_k_##T, T, PackedQ6_K<T>, 8)                                                                       \
    EXPERT_KERNEL(q6_k_##T, T, PackedQ6_K<T>, 32)                                                                      \
    KERNEL(256)                                                                                                        \
    moe_combine_##T(T *out, const T *x, const float *weights, const uint32_t *experts, uint32_t used,                  \
                    uint32_t hidden) {                                                                                 \
        combine(out, x, weights, experts, used, hidden);                                                               \
    }                                                                                                                  \
    REGISTER_KERNEL(moe_combine_##T)

MOE_KERNELS(bf16)
MOE_KERNELS(f16)
