// Half floats with conversions that round to the nearest, ties to even.
#pragma once

#include "cuda_runtime.h"

struct __half {
    uint16_t bits;
};

inline float __half2float(__half half) {
    uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000) << 16;
    uint32_t exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) {
        // Subnormal: fraction · 2⁻²⁴.
        float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
        return __uint_as_float(__float_as_uint(value) | sign);
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

inline __half __float2half_rn(float value) {
    uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
    if (rest > 0x7F800000) return {static_cast<uint16_t>(sign | 0x7FFF)};
    if (rest >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};
    if (rest < 0x38800000) {
        // Adding 2⁻¹ · 2⁻²⁴⁺²⁴ leaves the value rounded to a multiple of 2⁻²⁴ in the last bits.
        float shifted = __uint_as_float(rest) + 0.5f;
        return {static_cast<uint16_t>(sign | (__float_as_uint(shifted) - 0x3F000000u))};
    }
    uint32_t rounded = rest + 0xFFF + (rest >> 13 & 1) - (112u << 23);
    return {static_cast<uint16_t>(sign | rounded >> 13)};
}

static_assert(sizeof(__half) == 2, "a half has two bytes");
