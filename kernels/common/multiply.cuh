// Products of a few rows with a matrix that is read once: out = x · wᵀ. A block takes 16 rows of w, its eight warps every
// eighth piece of them, and adds up the warps' sums in their order. Rows of w are the 16 rows of a tensor core product,
// rows of x its 8 columns, so one to eight rows cost the same, and a row's result is the same bits for any number.
//
// A kind of weights says how a piece is read: `Kind::pieces(k)`, and `Kind::add(sums, w, ..)` for one of them.
#pragma once

#include "common/packed.cuh"
#include "common/tensor.cuh"

constexpr uint32_t TILE_ROWS = 16;
constexpr uint32_t PRODUCT_WARPS = 8;

// This lane's rows of x: row 8 · t + lane / 4 for each t, null where there is none.
template <class T, int NT> struct Inputs {
    const T *row[NT];
    uint32_t k;
    bool wide;

    __device__ __forceinline__ uint4 eight(int t, uint32_t at) const {
        return row[t] && at < k ? raw8(row[t], at, k, wide) : make_uint4(0, 0, 0, 0);
    }
    // Four values; only for k that is a multiple of four.
    __device__ __forceinline__ uint2 four(int t, uint32_t at) const {
        if (!row[t]) return make_uint2(0, 0);
        if (wide) return __ldg(reinterpret_cast<const uint2 *>(row[t] + at));
        return make_uint2(bits_of(row[t][at]) | bits_of(row[t][at + 1]) << 16,
                          bits_of(row[t][at + 2]) | bits_of(row[t][at + 3]) << 16);
    }
};

// The matrix and which of its rows are this lane's, lane / 4 and lane / 4 + 8 of the block's; `low` and `high` say whether
// there is one.
struct Matrix {
    const uint8_t *bytes;
    uint64_t rows;
    uint64_t row;
    bool low, high;
    uint32_t k;
};

__device__ __forceinline__ uint4 stream16(const void *at, bool there) {
    return there ? __ldcs(static_cast<const uint4 *>(at)) : make_uint4(0, 0, 0, 0);
}

// Both of a pair less the same.
template <class T> __device__ __forceinline__ uint32_t less(uint32_t pair, uint32_t by) {
#ifdef __CUDACC__
    if constexpr (std::is_same<T, bf16>::value) {
        __nv_bfloat162 a, b;
        memcpy(&a, &pair, 4);
        memcpy(&b, &by, 4);
        a = __hsub2(a, b);
        memcpy(&pair, &a, 4);
    } else {
        __half2 a, b;
        memcpy(&a, &pair, 4);
        memcpy(&b, &by, 4);
        a = __hsub2(a, b);
        memcpy(&pair, &a, 4);
    }
    return pair;
#else
    float2 a = unpack<T>(pair), b = unpack<T>(by);
    return pack<T>(a.x - b.x, a.y - b.y);
#endif
}

// A small integer in the last bits of 1024 (f16) or 128 (bf16) is that number plus it: seven bits are exact in both.
template <class T> __device__ __forceinline__ uint32_t magic() {
    return std::is_same<T, bf16>::value ? 0x43004300u : 0x64006400u;
}

template <class T> struct Dense {
    static constexpr uint32_t PIECE = 128;

    static __device__ __forceinline__ uint32_t pieces(uint32_t k) { return (k + PIECE - 1) / PIECE; }

    template <int NT>
    static __device__ __forceinline__ void add(float (&sums)[NT][4], const Matrix &w, const Inputs<T, NT> &x,
                                               uint32_t piece, uint32_t j) {
        const T *low_row = reinterpret_cast<const T *>(w.bytes) + w.row * w.k, *high_row = low_row + 8ull * w.k;
        const bool wide = w.k % 8 == 0;
        uint4 low[4], high[4];
#pragma unroll
        for (uint32_t u = 0; u < 4; u++) {
            const uint32_t at = piece * PIECE + u * 32 + j * 8;
            if (wide) {
                low[u] = stream16(low_row + at, w.low && at < w.k);
                high[u] = stream16(high_row + at, w.high && at < w.k);
            } else {
                low[u] = w.low && at < w.k ? raw8(low_row, at, w.k, false) : make_uint4(0, 0, 0, 0);
                high[u] = w.high && at < w.k ? raw8(high_row, at, w.k, false) : make_uint4(0, 0, 0, 0);
            }
        }
#pragma unroll
        for (uint32_t u = 0; u < 4; u++) {
#pragma unroll
            for (int t = 0; t < NT; t++) {
                const uint4 b = x.eight(t, piece * PIECE + u * 32 + j * 8);
                multiply_add<T>(sums[t], low[u].x, high[u].x, low[u].y, high[u].y, b.x, b.y);
                multiply_add<T>(sums[t], low[u].z, high[u].z, low[u].w, high[u].w, b.z, b.w);
            }
        }
    }
};

// Products of a block's integers, times what the block is scaled by.
template <int NT>
__device__ __forceinline__ void add_scaled(float (&sums)[NT][4], const float (&block)[NT][4], float low, float high) {
#pragma unroll
    for (int t = 0; t < NT; t++) {
        sums[t][0] += low * block[t][0];
        sums[t][1] += low * block[t][1];
        sums[t][2] += high * block[t][2];
        sums[t][3] += high * block[t][3];
    }
}

template <int NT> __device__ __forceinline__ void clear(float (&sums)[NT][4]) {
#pragma unroll
    for (int t = 0; t < NT; t++) sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = 0.0f;
}

template <class T> struct PackedQ8_0 {
    // Two pairs of blocks.
    static __device__ __forceinline__ uint32_t pieces(uint32_t k) { return (k / 32 + 3) / 4; }

    // Four i8 as two pairs of T.
    static __device__ __forceinline__ void spread(uint32_t word, uint32_t &first, uint32_t &second) {
        word ^= 0x80808080u;
        if constexpr (std::is_same<T, bf16>::value) {
            // bf16 has room for seven bits only: by way of 2²³ + q + 128.
            float v[4];
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                v[i] = __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7440u | i)) - 8388736.0f;
            first = pack<T>(v[0], v[1]);
            second = pack<T>(v[2], v[3]);
        } else {
            first = less<T>(__byte_perm(word, 0x64646464u, 0x4140), 0x64806480u);
            second = less<T>(__byte_perm(word, 0x64646464u, 0x4342), 0x64806480u);
        }
    }

    template <int NT>
    static __device__ __forceinline__ void add(float (&sums)[NT][4], const Matrix &w, const Inputs<T, NT> &x,
                                               uint32_t piece, uint32_t j) {
        const uint32_t blocks = w.k / 32;
        const uint64_t low_block = w.row * blocks, high_block = low_block + 8ull * blocks;
        const uint8_t *scales = w.bytes + w.rows * w.k;
        uint4 quants[2][2];
        float scale[2][2][2];
#pragma unroll
        for (uint32_t u = 0; u < 2; u++) {
            const uint32_t first = piece * 4 + u * 2;
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                const uint64_t block = (r ? high_block : low_block) + first;
                const bool there = (r ? w.high : w.low) && first < blocks, both = first + 1 < blocks;
                const uint8_t *at = w.bytes + block * 32;
                if (both || !there) {
                    quants[u][r] = stream16(at + j * 16, there);
                } else {
                    const uint2 last = __ldcs(reinterpret_cast<const uint2 *>(at + j * 8));
                    quants[u][r] = make_uint4(last.x, last.y, 0, 0);
                }
                scale[u][r][0] = there ? f16_at(scales + block * 2) : 0.0f;
                scale[u][r][1] = there && both ? f16_at(scales + block * 2 + 2) : 0.0f;
            }
        }
#pragma unroll
        for (uint32_t u = 0; u < 2; u++)
#pragma unroll
            for (uint32_t b = 0; b < 2; b++) {
                const uint32_t at = (piece * 4 + u * 2 + b) * 32 + j * 8;
                uint32_t low[4], high[4];
                spread(b ? quants[u][0].z : quants[u][0].x, low[0], low[1]);
                spread(b ? quants[u][0].w : quants[u][0].y, low[2], low[3]);
                spread(b ? quants[u][1].z : quants[u][1].x, high[0], high[1]);
                spread(b ? quants[u][1].w : quants[u][1].y, high[2], high[3]);
                float block[NT][4];
                clear<NT>(block);
#pragma unroll
                for (int t = 0; t < NT; t++) {
                    const uint4 v = x.eight(t, at);
                    multiply_add<T>(block[t], low[0], high[0], low[1], high[1], v.x, v.y);
                    multiply_add<T>(block[t], low[2], high[2], low[3], high[3], v.z, v.w);
                }
                add_scaled<NT>(sums, block, scale[u][0][b], scale[u][1][b]);
            }
    }
};

__device__ __forceinline__ uint32_t word_of(const uint4 &all, uint32_t i) {
    return i == 0 ? all.x : i == 1 ? all.y : i == 2 ? all.z : all.w;
}

template <class T> struct PackedQ4_K {
    static __device__ __forceinline__ uint32_t pieces(uint32_t k) { return k / 256; }

    static __device__ __forceinline__ uint32_t spread(uint32_t word, uint32_t shift) {
        return less<T>((word >> shift & 0x000F000Fu) | magic<T>(), magic<T>());
    }

    template <int NT>
    static __device__ __forceinline__ void add(float (&sums)[NT][4], const Matrix &w, const Inputs<T, NT> &x,
                                               uint32_t piece, uint32_t j) {
        const uint32_t blocks = w.k / 256;
        const uint8_t *at[2];
        at[0] = w.bytes + (w.row * blocks + piece) * Q4_K::MAIN;
        at[1] = at[0] + 8ull * blocks * Q4_K::MAIN;
        uint4 head[2], quants[2][2];
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            const bool there = r ? w.high : w.low;
            head[r] = stream16(at[r], there);
            quants[r][0] = stream16(at[r] + 16 + j * 16, there);
            quants[r][1] = stream16(at[r] + 80 + j * 16, there);
        }
        float d[2], minimum[2];
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            const float2 both = unpack<f16>(head[r].x);
            d[r] = both.x;
            minimum[r] = both.y;
        }
        // Ones times x are the sums that the minimums are taken from.
        const uint32_t ones = std::is_same<T, bf16>::value ? 0x3F803F80u : 0x3C003C00u;
#pragma unroll
        for (uint32_t part = 0; part < 8; part++) {
            const uint32_t word = part / 2 % 2 * 2, shift = part % 2 * 4;
            uint32_t a[2][4];
            float scale[2], least[2];
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                const uint32_t first = word_of(quants[r][part / 4], word), second = word_of(quants[r][part / 4], word + 1);
                a[r][0] = spread(first, shift);
                a[r][1] = spread(first, shift + 8);
                a[r][2] = spread(second, shift);
                a[r][3] = spread(second, shift + 8);
                uint32_t own, own_least;
                part_scales(head[r].y, head[r].z, head[r].w, part, own, own_least);
                scale[r] = d[r] * static_cast<float>(own);
                least[r] = -minimum[r] * static_cast<float>(own_least);
            }
            float block[NT][4], whole[NT][4];
            clear<NT>(block);
            clear<NT>(whole);
#pragma unroll
            for (int t = 0; t < NT; t++) {
                const uint4 v = x.eight(t, piece * 256 + part * 32 + j * 8);
                multiply_add<T>(block[t], a[0][0], a[1][0], a[0][1], a[1][1], v.x, v.y);
                multiply_add<T>(block[t], a[0][2], a[1][2], a[0][3], a[1][3], v.z, v.w);
                multiply_add<T>(whole[t], ones, ones, ones, ones, v.x, v.y);
                multiply_add<T>(whole[t], ones, ones, ones, ones, v.z, v.w);
            }
            add_scaled<NT>(sums, block, scale[0], scale[1]);
            add_scaled<NT>(sums, whole, least[0], least[1]);
        }
    }
};

template <class T> struct PackedQ6_K {
    static __device__ __forceinline__ uint32_t pieces(uint32_t k) { return k / 256; }

    static __device__ __forceinline__ uint32_t spread(uint32_t low, uint32_t low_shift, uint32_t high,
                                                      uint32_t high_shift) {
        const uint32_t pair = (low >> low_shift & 0x000F000Fu) | (high >> high_shift & 0x00030003u) << 4;
        return less<T>(pair | magic<T>(), magic<T>() + 0x00200020u);
    }

    template <int NT>
    static __device__ __forceinline__ void add(float (&sums)[NT][4], const Matrix &w, const Inputs<T, NT> &x,
                                               uint32_t piece, uint32_t j) {
        const uint32_t blocks = w.k / 256;
        uint4 low[2][2], high[2], scales[2];
        float d[2];
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            const uint64_t index = (w.row + r * 8) * blocks + piece;
            const uint8_t *at = w.bytes + index * Q6_K::MAIN;
            const bool there = r ? w.high : w.low;
            low[r][0] = stream16(at + j * 16, there);
            low[r][1] = stream16(at + 64 + j * 16, there);
            high[r] = stream16(at + 128 + j * 16, there);
            scales[r] = stream16(at + 192, there);
            d[r] = there ? f16_at(w.bytes + w.rows * blocks * Q6_K::MAIN + index * 2) : 0.0f;
        }
#pragma unroll
        for (uint32_t half = 0; half < 2; half++)
#pragma unroll
            for (uint32_t group = 0; group < 8; group++) {
                uint32_t a[2][2];
                float scale[2];
#pragma unroll
                for (uint32_t r = 0; r < 2; r++) {
                    const uint32_t bits = word_of(low[r][half], group % 4), top = word_of(high[r], half * 2 + group % 2);
                    const uint32_t shift = group / 4 * 4, top_shift = group / 2 * 2;
                    a[r][0] = spread(bits, shift, top, top_shift);
                    a[r][1] = spread(bits, shift + 8, top, top_shift + 8);
                    const uint32_t own = word_of(scales[r], half * 2 + group / 4) >> (group % 4 * 8);
                    scale[r] = d[r] * static_cast<float>(static_cast<int8_t>(own));
                }
                float block[NT][4];
                clear<NT>(block);
#pragma unroll
                for (int t = 0; t < NT; t++) {
                    const uint2 v = x.four(t, piece * 256 + half * 128 + group * 16 + j * 4);
                    multiply_add<T>(block[t], a[0][0], a[1][0], a[0][1], a[1][1], v.x, v.y);
                }
                add_scaled<NT>(sums, block, scale[0], scale[1]);
            }
    }
};

// One block's tile: `rows.row(i)` is row i of x, `store(i, n, sum)` takes what belongs there. `scratch` holds
// 8 · 16 · 8 · NT values.
template <class T, class Kind, int NT, class Rows, class Store>
__device__ __forceinline__ void multiply_tile(const uint8_t *bytes, uint64_t matrix_rows, uint64_t first_row,
                                              uint32_t n_left, uint32_t k, uint32_t m, float *scratch,
                                              const Rows &rows, const Store &store) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, j = lane % 4;
    Matrix w;
    w.bytes = bytes;
    w.rows = matrix_rows;
    w.row = first_row + g;
    w.low = g < n_left;
    w.high = g + 8 < n_left;
    w.k = k;
    Inputs<T, NT> x;
    x.k = k;
    x.wide = k % 8 == 0;
#pragma unroll
    for (int t = 0; t < NT; t++) {
        const uint32_t row = t * 8 + g;
        x.row[t] = row < m ? rows(row) : nullptr;
        x.wide = x.wide && on_16_bytes(x.row[t]);
    }
    float sums[NT][4];
    clear<NT>(sums);
    const uint32_t pieces = Kind::pieces(k);
    for (uint32_t piece = warp; piece < pieces; piece += PRODUCT_WARPS) Kind::template add<NT>(sums, w, x, piece, j);
#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            scratch[(warp * 8 * NT + t * 8 + j * 2 + i % 2) * TILE_ROWS + g + i / 2 * 8] = sums[t][i];
    __syncthreads();
    for (uint32_t at = threadIdx.x; at < 8 * NT * TILE_ROWS; at += PRODUCT_WARPS * WARP) {
        const uint32_t row = at / TILE_ROWS, n = at % TILE_ROWS;
        if (row >= m || n >= n_left) continue;
        float sum = 0.0f;
#pragma unroll
        for (uint32_t from = 0; from < PRODUCT_WARPS; from++) sum += scratch[from * 8 * NT * TILE_ROWS + at];
        store(row, n, sum);
    }
}
