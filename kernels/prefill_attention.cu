// Causal attention of prompts' chunks over their pages. A block takes a tile of rows of one KV head, where a row is one
// query head of one token: all heads that share the KV head lie one after the other, token by token, so that every
// key read serves them all and no ratio of heads wastes a row.
//
// Keys and values come in tiles of 64 tokens, the next one while this one is computed. Tiles begin at multiples of 64 and
// a tile that a row does not see changes nothing in it, so a row's result does not depend on how a prompt is cut.

#include "common/reduce.cuh"
#include "common/tensor.cuh"

constexpr uint32_t KEY_TOKENS = 64;
constexpr uint32_t WARPS = 4;

// Rows of 16-byte pieces in shared memory, the pieces of a row in another order from row to row so that eight rows'
// same piece lies on different banks.
template <int DIM> __device__ __forceinline__ uint32_t piece_at(uint32_t row, uint32_t piece) {
    const uint32_t turn = DIM == 96 ? row / 2 % 4 : row % 8;
    return row * (DIM / 8) + (piece ^ turn);
}

// Brings COUNT rows of `dim` values, `from(row)` or null for a row of zeros, each padded to DIM. `base` is any address
// that copies of nothing may name.
template <class T, int DIM, uint32_t COUNT, class From>
__device__ __forceinline__ void bring(uint4 *to, const T *base, uint32_t dim, bool wide, const From &from) {
    constexpr uint32_t PIECES = DIM / 8;
    if (wide) {
#pragma unroll 4
        for (uint32_t i = threadIdx.x; i < COUNT * PIECES; i += WARPS * WARP) {
            const uint32_t row = i / PIECES, piece = i % PIECES;
            const T *source = from(row);
            const bool there = source && piece * 8 < dim;
            copy16_later(to + piece_at<DIM>(row, piece), there ? source + piece * 8 : base, there);
        }
        return;
    }
    for (uint32_t i = threadIdx.x; i < COUNT * PIECES; i += WARPS * WARP) {
        const uint32_t row = i / PIECES, piece = i % PIECES;
        const T *source = from(row);
        const bool there = source && piece * 8 < dim;
        to[piece_at<DIM>(row, piece)] = there ? raw8(source, piece * 8, dim, false) : make_uint4(0, 0, 0, 0);
    }
}

// `MT` times 16 rows a warp.
template <class T, int DIM, int MT>
__device__ __forceinline__ void prefill_attention(T *out, const T *q, const T *keys, const T *values,
                                                  const uint32_t *block_tables, const uint32_t *positions,
                                                  const uint32_t *cu_seqlens, uint32_t table_width, uint32_t q_stride,
                                                  uint32_t q_heads, uint32_t kv_heads, uint32_t dim, uint32_t window,
                                                  float softcap, float scale) {
    constexpr uint32_t ROWS = WARPS * 16 * MT;
    constexpr uint32_t STEPS = DIM / 16, COLUMNS = DIM / 8, KEY_COLUMNS = KEY_TOKENS / 8;
    DYNAMIC_SHARED(memory);
    uint4 *queries = reinterpret_cast<uint4 *>(memory);
    uint4 *tiles = queries + ROWS * (DIM / 8);
    constexpr uint32_t TILE = KEY_TOKENS * (DIM / 8);

    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, j = lane % 4;
    const uint32_t sequence = blockIdx.z, kv_head = blockIdx.y, group = q_heads / kv_heads;
    const uint32_t first = cu_seqlens[sequence], tokens = cu_seqlens[sequence + 1] - first;
    // The last tiles see most and start first.
    const uint64_t first_row = static_cast<uint64_t>(gridDim.x - 1 - blockIdx.x) * ROWS;
    const uint64_t all_rows = static_cast<uint64_t>(tokens) * group;
    if (first_row >= all_rows) return;

    const uint32_t begin = positions[first];
    const uint32_t last_row = static_cast<uint32_t>((first_row + ROWS < all_rows ? first_row + ROWS : all_rows) - 1);
    const uint32_t lowest = begin + static_cast<uint32_t>(first_row) / group, highest = begin + last_row / group;
    const uint32_t start = window && lowest + 1 > window ? lowest + 1 - window : 0;
    const uint32_t first_tile = start / KEY_TOKENS, end_tile = highest / KEY_TOKENS + 1;
    const bool wide = dim % 8 == 0, wide_queries = wide && q_stride % 8 == 0 && on_16_bytes(q);
    const uint32_t *table = block_tables + static_cast<uint64_t>(sequence) * table_width;

    const auto query_row = [&](uint32_t row) -> const T * {
        const uint32_t at = static_cast<uint32_t>(first_row) + row;
        if (at > last_row) return nullptr;
        const uint64_t token = first + at / group;
        return q + token * q_stride + static_cast<uint64_t>(kv_head * group + at % group) * dim;
    };
    const auto bring_tile = [&](uint32_t tile) {
        uint4 *to = tiles + tile % 2 * 2 * TILE;
        // A tile is two pages; one that no row sees may be gone.
        uint64_t pages[KEY_TOKENS / PAGE_TOKENS];
#pragma unroll
        for (uint32_t p = 0; p < KEY_TOKENS / PAGE_TOKENS; p++) {
            const uint32_t token = tile * KEY_TOKENS + p * PAGE_TOKENS;
            const bool seen = token <= highest && token + PAGE_TOKENS > start;
            pages[p] = seen ? (static_cast<uint64_t>(table[token / PAGE_TOKENS]) * kv_heads + kv_head) * PAGE_TOKENS * dim : 0;
        }
        const auto row_of = [&](const T *from, uint32_t row) -> const T * {
            const uint32_t token = tile * KEY_TOKENS + row;
            if (token < start || token > highest) return nullptr;
            return from + (row < PAGE_TOKENS ? pages[0] : pages[1]) + row % PAGE_TOKENS * dim;
        };
        bring<T, DIM, KEY_TOKENS>(to, keys, dim, wide, [&](uint32_t row) { return row_of(keys, row); });
        bring<T, DIM, KEY_TOKENS>(to + TILE, values, dim, wide, [&](uint32_t row) { return row_of(values, row); });
    };
    bring<T, DIM, ROWS>(queries, q, dim, wide_queries, query_row);
    bring_tile(first_tile);
    end_copies();

    // Positions of this thread's rows; rows past the end repeat the last.
    uint32_t position[MT][2];
    float peak[MT][2], mass[MT][2], sums[MT][COLUMNS][4];
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const uint32_t row = static_cast<uint32_t>(first_row) + (warp * MT + m) * 16 + r * 8 + g;
            position[m][r] = begin + min(row, last_row) / group;
            peak[m][r] = -INFINITY;
            mass[m][r] = 0.0f;
        }
#pragma unroll
        for (uint32_t c = 0; c < COLUMNS; c++) sums[m][c][0] = sums[m][c][1] = sums[m][c][2] = sums[m][c][3] = 0.0f;
    }

    for (uint32_t tile = first_tile; tile < end_tile; tile++) {
        if (tile + 1 < end_tile) {
            bring_tile(tile + 1);
            end_copies();
            await_copies<1>();
        } else {
            await_copies<0>();
        }
        __syncthreads();
        const uint4 *key_tile = tiles + tile % 2 * 2 * TILE, *value_tile = key_tile + TILE;
        float scores[MT][KEY_COLUMNS][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (uint32_t c = 0; c < KEY_COLUMNS; c++)
                scores[m][c][0] = scores[m][c][1] = scores[m][c][2] = scores[m][c][3] = 0.0f;
#pragma unroll
        for (uint32_t s = 0; s < STEPS; s++) {
            if (s * 16 >= dim) break;
            uint32_t a[MT][4];
#pragma unroll
            for (int m = 0; m < MT; m++)
                load_matrices(a[m], queries + piece_at<DIM>((warp * MT + m) * 16 + lane % 16, s * 2 + lane / 16));
#pragma unroll
            for (uint32_t c = 0; c < KEY_COLUMNS; c += 2) {
                uint32_t b[4];
                load_matrices(b, key_tile + piece_at<DIM>(c * 8 + lane / 16 * 8 + lane % 8, s * 2 + lane / 8 % 2));
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    multiply_add<T>(scores[m][c], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                    multiply_add<T>(scores[m][c + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
                }
            }
        }
        const uint32_t from = tile * KEY_TOKENS;
        // Whether some row does not see some of these tokens.
        const bool edge = from + KEY_TOKENS - 1 > lowest || (window && from + window <= highest);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            finish_scores(scores[m], scale, softcap);
            float rise[2] = {peak[m][0], peak[m][1]};
#pragma unroll
            for (uint32_t c = 0; c < KEY_COLUMNS; c++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (edge) {
                        const uint32_t at = from + c * 8 + j * 2 + i % 2, own = position[m][i / 2];
                        if (at > own || (window && at + window <= own)) scores[m][c][i] = -INFINITY;
                    }
                    rise[i / 2] = fmaxf(rise[i / 2], scores[m][c][i]);
                }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                rise[r] = fmaxf(rise[r], __shfl_xor_sync(ALL_LANES, rise[r], 1));
                rise[r] = fmaxf(rise[r], __shfl_xor_sync(ALL_LANES, rise[r], 2));
                // A row that has seen nothing yet stays as it is.
                const float base = rise[r] == -INFINITY ? 0.0f : rise[r];
                const float shrink = exp2_fast(peak[m][r] - base);
                peak[m][r] = rise[r];
                rise[r] = base;
                mass[m][r] *= shrink;
#pragma unroll
                for (uint32_t c = 0; c < COLUMNS; c++) {
                    sums[m][c][r * 2] *= shrink;
                    sums[m][c][r * 2 + 1] *= shrink;
                }
            }
#pragma unroll
            for (uint32_t c = 0; c < KEY_COLUMNS; c++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    scores[m][c][i] = exp2_fast(scores[m][c][i] - rise[i / 2]);
                    mass[m][i / 2] += scores[m][c][i];
                }
        }
#pragma unroll
        for (uint32_t s = 0; s < KEY_COLUMNS / 2; s++) {
            uint32_t a[MT][4];
#pragma unroll
            for (int m = 0; m < MT; m++) {
                a[m][0] = pack<T>(scores[m][2 * s][0], scores[m][2 * s][1]);
                a[m][1] = pack<T>(scores[m][2 * s][2], scores[m][2 * s][3]);
                a[m][2] = pack<T>(scores[m][2 * s + 1][0], scores[m][2 * s + 1][1]);
                a[m][3] = pack<T>(scores[m][2 * s + 1][2], scores[m][2 * s + 1][3]);
            }
#pragma unroll
            for (uint32_t c = 0; c < COLUMNS; c += 2) {
                if (c * 8 >= dim) break;
                uint32_t b[4];
                load_matrices_transposed(b, value_tile + piece_at<DIM>(s * 16 + lane % 16, c + lane / 16));
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    multiply_add<T>(sums[m][c], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                    multiply_add<T>(sums[m][c + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
                }
            }
        }
        // The next but one tile goes where this one was.
        __syncthreads();
    }

#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float all = mass[m][r];
            all += __shfl_xor_sync(ALL_LANES, all, 1);
            all += __shfl_xor_sync(ALL_LANES, all, 2);
            const uint32_t row = static_cast<uint32_t>(first_row) + (warp * MT + m) * 16 + r * 8 + g;
            if (row > last_row) continue;
            const float inverse = 1.0f / all;
            const uint64_t token = first + row / group;
            T *to = out + (token * q_heads + kv_head * group + row % group) * dim;
            // The head begins on four bytes: dim is even.
#pragma unroll
            for (uint32_t c = 0; c < COLUMNS; c++) {
                const uint32_t at = c * 8 + j * 2;
                if (at < dim)
                    *reinterpret_cast<uint32_t *>(to + at) =
                        pack<T>(sums[m][c][r * 2] * inverse, sums[m][c][r * 2 + 1] * inverse);
            }
        }
}

// BLOCKS of them are to fit on a multiprocessor, by registers as they do by shared memory.
#define PREFILL_KERNEL(T, DIM, MT, BLOCKS)                                                                             \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                          \
    prefill_attention_##T##_d##DIM(T *out, const T *q, const T *keys, const T *values, const uint32_t *block_tables,   \
                                   const uint32_t *positions, const uint32_t *cu_seqlens, uint32_t table_width,        \
                                   uint32_t q_stride, uint32_t q_heads, uint32_t kv_heads, uint32_t dim,               \
                                   uint32_t window, float softcap, float scale) {                                      \
        prefill_attention<T, DIM, MT>(out, q, keys, values, block_tables, positions, cu_seqlens, table_width,          \
                                      q_stride, q_heads, kv_heads, dim, window, softcap, scale);                       \
    }                                                                                                                  \
    REGISTER_KERNEL(prefill_attention_##T##_d##DIM)

#define PREFILL_KERNELS(T)                                                                                             \
    PREFILL_KERNEL(T, 64, 2, 3)                                                                                        \
    PREFILL_KERNEL(T, 96, 2, 2)                                                                                        \
    PREFILL_KERNEL(T, 128, 2, 2)                                                                                       \
    PREFILL_KERNEL(T, 256, 1, 1)

PREFILL_KERNELS(bf16)
PREFILL_KERNELS(f16)
