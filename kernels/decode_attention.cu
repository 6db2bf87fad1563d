// Attention of one query token a sequence over its pages (flash-decoding): a block takes one split of 128 tokens of one KV
// head for all query heads that share it, a warp one page; a second kernel joins the splits.
//
// Heads are the 16 rows of a tensor core product. Keys and values go from global memory to registers 128 bits at a time
// without a stop in shared memory: which value of a head stands at which k of the product is free as long as queries and
// keys agree, and likewise which of its columns a value becomes.
//
// Splits begin at multiples of 128 and are joined in their order whatever the grid, so a row's result does not depend on
// the batch.

#include "common/reduce.cuh"
#include "common/tensor.cuh"

constexpr uint32_t SPLIT_TOKENS = 128;
constexpr uint32_t HEAD_ROWS = 16;
constexpr uint32_t WARPS = 4;

// The positions a token sees, and the splits they lie in.
struct Visible {
    uint32_t start, end, first_split, splits;

    __device__ __forceinline__ Visible(uint32_t position, uint32_t window) {
        // NO_ROW sees nothing.
        end = position + 1;
        start = window && end > window ? end - window : 0;
        first_split = start / SPLIT_TOKENS;
        splits = (end + SPLIT_TOKENS - 1) / SPLIT_TOKENS - first_split;
    }
};

template <class T, int DIM>
__device__ __forceinline__ void decode_attention(float *partial, float *stats, const T *q, const T *keys,
                                                 const T *values, const uint32_t *block_tables,
                                                 const uint32_t *positions, uint32_t table_width, uint32_t q_stride,
                                                 uint32_t q_heads, uint32_t kv_heads, uint32_t dim,
                                                 uint32_t max_splits, uint32_t window, float softcap, float scale) {
    // Sums over 32 values of a head at a time, outputs in groups of 64 of them.
    constexpr uint32_t STEPS = DIM / 32, GROUPS = (DIM + 63) / 64;
    // 64 bytes more a row put the rows that a quarter warp reads on different banks.
    constexpr uint32_t Q_STRIDE = DIM + 32;
    SHARED_ARRAY(uint4, queries, HEAD_ROWS *Q_STRIDE / 8);
    SHARED_ARRAY(float, joint, 2 * HEAD_ROWS *GROUPS * 64);
    SHARED_ARRAY(float, peaks, WARPS *HEAD_ROWS);
    SHARED_ARRAY(float, masses, WARPS *HEAD_ROWS);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, j = lane % 4;
    const uint32_t group = q_heads / kv_heads, tiles = (group + HEAD_ROWS - 1) / HEAD_ROWS;
    const uint32_t kv_head = blockIdx.y / tiles, first_head = blockIdx.y % tiles * HEAD_ROWS;
    const uint32_t heads = group - first_head < HEAD_ROWS ? group - first_head : HEAD_ROWS;
    const uint64_t row = blockIdx.z;
    const Visible visible(positions[row], window);
    if (blockIdx.x >= visible.splits) return;

    const uint32_t head = kv_head * group + first_head;
    for (uint32_t i = threadIdx.x; i < HEAD_ROWS * (DIM / 8); i += WARPS * WARP) {
        const uint32_t r = i / (DIM / 8), at = i % (DIM / 8) * 8;
        uint4 eight = make_uint4(0, 0, 0, 0);
        if (r < heads) {
            const T *from = q + row * q_stride + static_cast<uint64_t>(head + r) * dim;
            eight = raw8(from, at, dim, on_16_bytes(from));
        }
        queries[(r * Q_STRIDE + at) / 8] = eight;
    }
    __syncthreads();

    const bool wide = dim % 8 == 0;
    for (uint32_t split = blockIdx.x; split < visible.splits; split += gridDim.x) {
        const uint32_t token = (visible.first_split + split) * SPLIT_TOKENS + warp * PAGE_TOKENS;
        float out[GROUPS * 8][4];
#pragma unroll
        for (uint32_t i = 0; i < GROUPS * 8; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
        float peak[2] = {-INFINITY, -INFINITY}, mass[2] = {0.0f, 0.0f};

        // The same for a whole warp.
        if (token < visible.end && token + PAGE_TOKENS > visible.start) {
            const uint64_t page = block_tables[row * table_width + token / PAGE_TOKENS];
            const uint64_t base = (page * kv_heads + kv_head) * PAGE_TOKENS * dim;
            const T *page_keys = keys + base, *page_values = values + base;
            float scores[4][4];
#pragma unroll
            for (uint32_t t = 0; t < 4; t++) scores[t][0] = scores[t][1] = scores[t][2] = scores[t][3] = 0.0f;
            uint4 mine[4][STEPS];
#pragma unroll
            for (uint32_t t = 0; t < 4; t++) {
                const uint32_t place = t * 8 + g, at = token + place;
                const bool seen = at >= visible.start && at < visible.end;
#pragma unroll
                for (uint32_t s = 0; s < STEPS; s++)
                    mine[t][s] = seen && s * 32 + j * 8 < dim ? raw8(page_keys + place * dim, s * 32 + j * 8, dim, wide)
                                                              : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
            for (uint32_t s = 0; s < STEPS; s++) {
                const uint4 low = queries[(g * Q_STRIDE + s * 32 + j * 8) / 8];
                const uint4 high = queries[((g + 8) * Q_STRIDE + s * 32 + j * 8) / 8];
#pragma unroll
                for (uint32_t t = 0; t < 4; t++) {
                    multiply_add<T>(scores[t], low.x, high.x, low.y, high.y, mine[t][s].x, mine[t][s].y);
                    multiply_add<T>(scores[t], low.z, high.z, low.w, high.w, mine[t][s].z, mine[t][s].w);
                }
            }
            finish_scores(scores, scale, softcap);
#pragma unroll
            for (uint32_t t = 0; t < 4; t++)
#pragma unroll
                for (uint32_t i = 0; i < 4; i++) {
                    const uint32_t at = token + t * 8 + j * 2 + i % 2;
                    if (at < visible.start || at >= visible.end) scores[t][i] = -INFINITY;
                    peak[i / 2] = fmaxf(peak[i / 2], scores[t][i]);
                }
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                peak[r] = fmaxf(peak[r], __shfl_xor_sync(ALL_LANES, peak[r], 1));
                peak[r] = fmaxf(peak[r], __shfl_xor_sync(ALL_LANES, peak[r], 2));
            }
#pragma unroll
            for (uint32_t t = 0; t < 4; t++)
#pragma unroll
                for (uint32_t i = 0; i < 4; i++) {
                    scores[t][i] = exp2_fast(scores[t][i] - peak[i / 2]);
                    mass[i / 2] += scores[t][i];
                }
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                mass[r] += __shfl_xor_sync(ALL_LANES, mass[r], 1);
                mass[r] += __shfl_xor_sync(ALL_LANES, mass[r], 2);
            }
#pragma unroll
            for (uint32_t c = 0; c < 2; c++) {
                const uint32_t a0 = pack<T>(scores[2 * c][0], scores[2 * c][1]);
                const uint32_t a1 = pack<T>(scores[2 * c][2], scores[2 * c][3]);
                const uint32_t a2 = pack<T>(scores[2 * c + 1][0], scores[2 * c + 1][1]);
                const uint32_t a3 = pack<T>(scores[2 * c + 1][2], scores[2 * c + 1][3]);
#pragma unroll
                for (uint32_t v = 0; v < GROUPS; v++) {
                    // Uniform: a group past the head's end is left out.
                    if (v * 64 >= dim) continue;
                    uint32_t words[4][4];
#pragma unroll
                    for (uint32_t i = 0; i < 4; i++) {
                        const uint32_t place = c * 16 + i / 2 * 8 + j * 2 + i % 2, at = token + place;
                        const bool seen = at >= visible.start && at < visible.end && v * 64 + g * 8 < dim;
                        const uint4 eight = seen ? raw8(page_values + place * dim, v * 64 + g * 8, dim, wide)
                                                 : make_uint4(0, 0, 0, 0);
                        words[i][0] = eight.x, words[i][1] = eight.y, words[i][2] = eight.z, words[i][3] = eight.w;
                    }
#pragma unroll
                    for (uint32_t i = 0; i < 8; i++) {
                        const uint32_t halves = i % 2 ? 0x7632 : 0x5410;
                        const uint32_t b0 = __byte_perm(words[0][i / 2], words[1][i / 2], halves);
                        const uint32_t b1 = __byte_perm(words[2][i / 2], words[3][i / 2], halves);
                        multiply_add<T>(out[v * 8 + i], a0, a1, a2, a3, b0, b1);
                    }
                }
            }
        }

        // The warps' pages together: all to the highest peak, then 2 onto 0 and 3 onto 1, then 1 onto 0.
        if (j == 0) {
            peaks[warp * HEAD_ROWS + g] = peak[0];
            peaks[warp * HEAD_ROWS + g + 8] = peak[1];
            masses[warp * HEAD_ROWS + g] = mass[0];
            masses[warp * HEAD_ROWS + g + 8] = mass[1];
        }
        __syncthreads();
        float factors[2];
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            float highest = -INFINITY;
#pragma unroll
            for (uint32_t w = 0; w < WARPS; w++) highest = fmaxf(highest, peaks[w * HEAD_ROWS + g + r * 8]);
            // A split is only looked at if a token of it is seen, so the highest is a number.
            factors[r] = exp2_fast(peak[r] - highest);
        }
#pragma unroll
        for (uint32_t i = 0; i < GROUPS * 8; i++) {
            out[i][0] *= factors[0], out[i][1] *= factors[0];
            out[i][2] *= factors[1], out[i][3] *= factors[1];
        }
        // Every thread finds its own values again in the same place of another warp.
        float *place = joint + (warp % 2) * (HEAD_ROWS * GROUPS * 64) + lane;
        if (warp >= 2) {
#pragma unroll
            for (uint32_t i = 0; i < GROUPS * 8; i++)
#pragma unroll
                for (uint32_t e = 0; e < 4; e++) place[(i * 4 + e) * 32] = out[i][e];
        }
        __syncthreads();
        if (warp < 2) {
#pragma unroll
            for (uint32_t i = 0; i < GROUPS * 8; i++)
#pragma unroll
                for (uint32_t e = 0; e < 4; e++) out[i][e] += place[(i * 4 + e) * 32];
            if (warp == 1) {
#pragma unroll
                for (uint32_t i = 0; i < GROUPS * 8; i++)
#pragma unroll
                    for (uint32_t e = 0; e < 4; e++) place[(i * 4 + e) * 32] = out[i][e];
            }
        }
        __syncthreads();
        if (warp == 0) {
            place += HEAD_ROWS * GROUPS * 64;
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                if (g + r * 8 >= heads) continue;
                const uint64_t index = (row * q_heads + head + g + r * 8) * max_splits + split;
                float *to = partial + index * dim;
#pragma unroll
                for (uint32_t i = 0; i < GROUPS * 8; i++)
#pragma unroll
                    for (uint32_t e = 0; e < 2; e++) {
                        const uint32_t at = i / 8 * 64 + (2 * j + e) * 8 + i % 8;
                        if (at < dim) to[at] = out[i][r * 2 + e] + place[(i * 4 + r * 2 + e) * 32];
                    }
                if (j == 0) {
                    float highest = -INFINITY, all = 0.0f;
#pragma unroll
                    for (uint32_t w = 0; w < WARPS; w++) highest = fmaxf(highest, peaks[w * HEAD_ROWS + g + r * 8]);
#pragma unroll
                    for (uint32_t w = 0; w < WARPS; w++)
                        all += masses[w * HEAD_ROWS + g + r * 8] *
                               exp2_fast(peaks[w * HEAD_ROWS + g + r * 8] - highest);
                    stats[index * 2] = highest;
                    stats[index * 2 + 1] = all;
                }
            }
        }
        __syncthreads();
    }
}

// Joins a head's splits: eight warps take every eighth split, then the warps' sums are added in their order.
template <class T>
__device__ __forceinline__ void decode_reduce(T *out, const float *partial, const float *stats,
                                              const uint32_t *positions, uint32_t q_heads, uint32_t dim,
                                              uint32_t max_splits, uint32_t window) {
    constexpr uint32_t REDUCE_WARPS = 8, MOST_DIM = 256;
    SHARED_ARRAY(float, sums, REDUCE_WARPS *MOST_DIM);
    SHARED_ARRAY(float, masses, REDUCE_WARPS);
    SHARED_ARRAY(float, scratch, 32);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint64_t row = blockIdx.x, index = (row * q_heads + blockIdx.y) * max_splits;
    out += (row * q_heads + blockIdx.y) * dim;
    const uint32_t splits = Visible(positions[row], window).splits;
    if (splits == 0) {
        for (uint32_t at = threadIdx.x; at < dim; at += blockDim.x) out[at] = from_float<T>(0.0f);
        return;
    }
    float highest = -INFINITY;
    for (uint32_t split = threadIdx.x; split < splits; split += blockDim.x)
        highest = fmaxf(highest, stats[(index + split) * 2]);
    highest = block_max(highest, scratch);

    float mine[MOST_DIM / WARP], mass = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < MOST_DIM / WARP; i++) mine[i] = 0.0f;
    for (uint32_t split = warp; split < splits; split += REDUCE_WARPS) {
        const float factor = exp2_fast(stats[(index + split) * 2] - highest);
        mass += factor * stats[(index + split) * 2 + 1];
        const float *from = partial + (index + split) * dim;
#pragma unroll
        for (uint32_t i = 0; i < MOST_DIM / WARP; i++) {
            const uint32_t at = i * WARP + lane;
            if (at < dim) mine[i] += factor * from[at];
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < MOST_DIM / WARP; i++) sums[warp * MOST_DIM + i * WARP + lane] = mine[i];
    if (lane == 0) masses[warp] = mass;
    __syncthreads();
    float all = 0.0f;
    for (uint32_t w = 0; w < REDUCE_WARPS; w++) all += masses[w];
    for (uint32_t at = threadIdx.x; at < dim; at += blockDim.x) {
        float sum = 0.0f;
        for (uint32_t w = 0; w < REDUCE_WARPS; w++) sum += sums[w * MOST_DIM + at];
        out[at] = from_float<T>(sum / all);
    }
}

#define DECODE_KERNEL(T, DIM)                                                                                          \
    KERNEL(128)                                                                                                        \
    decode_attention_##T##_d##DIM(float *partial, float *stats, const T *q, const T *keys, const T *values,            \
                                  const uint32_t *block_tables, const uint32_t *positions, uint32_t table_width,       \
                                  uint32_t q_stride, uint32_t q_heads, uint32_t kv_heads, uint32_t dim,                \
                                  uint32_t max_splits, uint32_t window, float softcap, float scale) {                  \
        decode_attention<T, DIM>(partial, stats, q, keys, values, block_tables, positions, table_width, q_stride,      \
                                 q_heads, kv_heads, dim, max_splits, window, softcap, scale);                          \
    }                                                                                                                  \
    REGISTER_KERNEL(decode_attention_##T##_d##DIM)

#define DECODE_KERNELS(T)                                                                                              \
    DECODE_KERNEL(T, 64)                                                                                               \
    DECODE_KERNEL(T, 96)                                                                                               \
    DECODE_KERNEL(T, 128)                                                                                              \
    DECODE_KERNEL(T, 256)                                                                                              \
    KERNEL(256)                                                                                                        \
    decode_attention_reduce_##T(T *out, const float *partial, const float *stats, const uint32_t *positions,           \
                                uint32_t q_heads, uint32_t dim, uint32_t max_splits, uint32_t window) {                \
        decode_reduce(out, partial, stats, positions, q_heads, dim, max_splits, window);                               \
    }                                                                                                                  \
    REGISTER_KERNEL(decode_attention_reduce_##T)

DECODE_KERNELS(bf16)
DECODE_KERNELS(f16)
