// Quantised matrices as they lie on the GPU: GGUF's blocks with their bytes in an order that a warp reads 128 bits at a
// time. A warp reads 16 rows at once, four lanes a row (j = lane % 4 below).
//
// Q8_0, 32 values: one plane of i8 and behind it one of scales. Two blocks of a row lie together: 16 bytes of lane j are
//   values 8j..8j+7 of the first and the same of the second. An odd last block lies in order.
// Q4_K, 256 values in 8 parts of 32: the header (d, dmin, 12 bytes of scales) as it is, then 16 bytes of lane j for parts 0
//   to 3, then for parts 4 to 7; every 8 bytes hold values 8j..8j+7 of two parts, the first in the low nibbles. Of four
//   bytes the middle two change places, so that masking gives pairs of neighbours.
// Q6_K, 256 values in 16 groups of 16: for each half 16 bytes of lane j with the low nibbles of values 4j..4j+3 of groups
//   (0, 4), (1, 5), (2, 6), (3, 7) of the half; then 16 bytes of lane j with their upper bits, a word for each half and parity
//   of the group; then the 16 scales. Bytes change places as in Q4_K. The d of all blocks are a plane of their own.
#pragma once

#include "common/number.cuh"

__device__ __forceinline__ float f16_at(const uint8_t *at) {
    return to_float(*reinterpret_cast<const f16 *>(at));
}

// Place of byte `i` of four once the middle two have changed places; the same there and back.
__device__ __forceinline__ uint32_t swapped(uint32_t i) { return (i & ~3u) | (i & 1) << 1 | (i >> 1 & 1); }

// Scale and minimum of part `part` from a header's 12 bytes as three words.
__device__ __forceinline__ void part_scales(uint32_t low, uint32_t middle, uint32_t high, uint32_t part, uint32_t &scale,
                                            uint32_t &minimum) {
    const uint32_t shift = part % 4 * 8;
    if (part < 4) {
        scale = low >> shift & 63;
        minimum = middle >> shift & 63;
    } else {
        const uint32_t both = high >> shift & 255;
        scale = (both & 15) | (low >> shift >> 6 & 3) << 4;
        minimum = both >> 4 | (middle >> shift >> 6 & 3) << 4;
    }
}

struct Q8_0 {
    static constexpr uint32_t VALUES = 32, BLOCK = 34, MAIN = 32;

    static __device__ __forceinline__ const uint8_t *scales(const uint8_t *packed, uint64_t blocks) {
        return packed + blocks * MAIN;
    }
    // Where value `i` of block `block` of a row of `blocks` lies from the row's begin.
    static __device__ __forceinline__ uint32_t place(uint32_t block, uint32_t blocks, uint32_t i) {
        if (block + 1 == blocks && block % 2 == 0) return block * 32 + i;
        return block / 2 * 64 + i / 8 * 16 + block % 2 * 8 + i % 8;
    }
    static __device__ __forceinline__ float value(const uint8_t *packed, uint64_t all_blocks, uint64_t row,
                                                  uint32_t blocks, uint32_t column) {
        const uint32_t block = column / VALUES;
        const uint8_t *at = packed + row * blocks * MAIN + place(block, blocks, column % VALUES);
        const float scale = f16_at(scales(packed, all_blocks) + (row * blocks + block) * 2);
        return static_cast<float>(static_cast<int8_t>(*at)) * scale;
    }
    static __device__ __forceinline__ void repack(uint8_t *packed, const uint8_t *source, uint64_t all_blocks,
                                                  uint64_t index, uint32_t blocks) {
        const uint64_t row = index / blocks;
        const uint32_t block = static_cast<uint32_t>(index % blocks);
        uint8_t *scale = packed + all_blocks * MAIN + index * 2;
        scale[0] = source[0];
        scale[1] = source[1];
        for (uint32_t i = 0; i < VALUES; i++) packed[row * blocks * MAIN + place(block, blocks, i)] = source[2 + i];
    }
};

struct Q4_K {
    static constexpr uint32_t VALUES = 256, BLOCK = 144, MAIN = 144;

    // Where the byte of places `i` of parts 2 · `pair` and 2 · `pair` + 1 lies in the packed block.
    static __device__ __forceinline__ uint32_t place(uint32_t pair, uint32_t i) {
        return 16 + pair / 2 * 64 + i / 8 * 16 + pair % 2 * 8 + swapped(i % 8);
    }
    static __device__ __forceinline__ float value(const uint8_t *packed, uint64_t, uint64_t row, uint32_t blocks,
                                                  uint32_t column) {
        const uint8_t *block = packed + (row * blocks + column / VALUES) * MAIN;
        const uint32_t part = column % VALUES / 32, i = column % 32;
        const uint32_t *words = reinterpret_cast<const uint32_t *>(block);
        uint32_t scale, minimum;
        part_scales(words[1], words[2], words[3], part, scale, minimum);
        const float q = static_cast<float>(block[place(part / 2, i)] >> (part % 2 * 4) & 15);
        return f16_at(block) * static_cast<float>(scale) * q - f16_at(block + 2) * static_cast<float>(minimum);
    }
    static __device__ __forceinline__ void repack(uint8_t *packed, const uint8_t *source, uint64_t, uint64_t index,
                                                  uint32_t) {
        packed += index * MAIN;
        for (uint32_t i = 0; i < 16; i++) packed[i] = source[i];
        for (uint32_t pair = 0; pair < 4; pair++)
            for (uint32_t i = 0; i < 32; i++) packed[place(pair, i)] = source[16 + pair * 32 + i];
    }
};

struct Q6_K {
    static constexpr uint32_t VALUES = 256, BLOCK = 210, MAIN = 208;

    static __device__ __forceinline__ const uint8_t *scales(const uint8_t *packed, uint64_t blocks) {
        return packed + blocks * MAIN;
    }
    // Of value `i` of half `half`'s group `group` of eight: the byte of low nibbles and the byte of upper bits.
    static __device__ __forceinline__ uint32_t low_place(uint32_t half, uint32_t group, uint32_t i) {
        return half * 64 + i / 4 * 16 + group % 4 * 4 + swapped(i % 4);
    }
    static __device__ __forceinline__ uint32_t high_place(uint32_t half, uint32_t group, uint32_t i) {
        return 128 + i / 4 * 16 + half * 8 + group % 2 * 4 + swapped(i % 4);
    }
    static __device__ __forceinline__ float value(const uint8_t *packed, uint64_t all_blocks, uint64_t row,
                                                  uint32_t blocks, uint32_t column) {
        const uint64_t index = row * blocks + column / VALUES;
        const uint8_t *block = packed + index * MAIN;
        const uint32_t half = column % VALUES / 128, group = column % 128 / 16, i = column % 16;
        const uint32_t low = block[low_place(half, group, i)] >> (group / 4 * 4) & 15;
        const uint32_t high = block[high_place(half, group, i)] >> (group / 2 * 2) & 3;
        const float own = static_cast<float>(static_cast<int8_t>(block[192 + half * 8 + group]));
        const float q = static_cast<float>(static_cast<int>(low | high << 4) - 32);
        return f16_at(scales(packed, all_blocks) + index * 2) * own * q;
    }
    static __device__ __forceinline__ void repack(uint8_t *packed, const uint8_t *source, uint64_t all_blocks,
                                                  uint64_t index, uint32_t) {
        uint8_t *d = packed + all_blocks * MAIN + index * 2;
        packed += index * MAIN;
        d[0] = source[208];
        d[1] = source[209];
        // Low byte 64 · half + 16 · g + i holds groups g and g + 4; high byte 32 · half + 16 · g + i groups g, g + 2, ...
        for (uint32_t half = 0; half < 2; half++)
            for (uint32_t i = 0; i < 16; i++) {
                for (uint32_t group = 0; group < 4; group++)
                    packed[low_place(half, group, i)] = source[half * 64 + group * 16 + i];
                for (uint32_t group = 0; group < 2; group++)
                    packed[high_place(half, group, i)] = source[128 + half * 32 + group * 16 + i];
            }
        for (uint32_t i = 0; i < 16; i++) packed[192 + i] = source[192 + i];
    }
};
