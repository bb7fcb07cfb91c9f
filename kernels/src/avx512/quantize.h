/* Rows rounded to int8 or int16, as the left side of matrix multiplications.

   A row in int16 has its scale from the norm (the root of the sum of squares) of the longest of its parts of 256
   numbers: MAX_INT16_NORM. By Cauchy and Schwarz no sum over a part, with weights of twice this norm, overflows 32
   bits. Sums are exact therefore, and a row errs by 1e-4 of its norm, an eighth of what bfloat16 costs. A row in int8
   is first rotated by Hadamard matrices, and lies between its minimum and its maximum. Queries and keys in int8 are not
   rotated, and lie about a zero point. */

#ifndef SPACY_ELECTRA_AVX512_QUANTIZE_H
#define SPACY_ELECTRA_AVX512_QUANTIZE_H

#include <immintrin.h>

#include "../operands.h"

enum { NOT_FINITE = 0x99 }; /* to fpclass */

typedef struct {
    __m512 min;
    __m512 max;
    __m512 sum; /* of all numbers of a row, which is not finite where one of them is not */
} Extremes;

INLINE Extremes no_extremes(void)
{
    return (Extremes){_mm512_set1_ps(__builtin_inff()), _mm512_set1_ps(-__builtin_inff()), _mm512_setzero_ps()};
}

/* Sums and differences of `size` registers in the pattern of a Hadamard matrix: this spreads what stands out in a row
   over others, and the weights that meet it were rotated against it (`native.rotated`). `size` is a constant where this
   is called, so that they stay in registers. */
INLINE Extremes rotate(int size, __m512 block[ROTATED], float *out, Extremes extremes)
{
#pragma GCC unroll 4
    for (int distance = 1; distance < size; distance *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < size; i++)
            if (!(i & distance)) {
                __m512 a = block[i], b = block[i + distance];
                block[i] = _mm512_add_ps(a, b);
                block[i + distance] = _mm512_sub_ps(a, b);
            }
    extremes.sum = _mm512_add_ps(extremes.sum, block[0]);
#pragma GCC unroll 16
    for (int i = 0; i < size; i++) {
        extremes.min = _mm512_min_ps(extremes.min, block[i]);
        extremes.max = _mm512_max_ps(extremes.max, block[i]);
        _mm512_storeu_ps(out + i * LANES, block[i]);
    }
    return extremes;
}

INLINE void store_int16(int16_t *out, __m512i numbers)
{
    _mm256_storeu_si256((__m256i *)out, _mm512_cvtsepi32_epi16(numbers));
}

/* Returns the scale, which is NaN where a number is not finite or its square is not. */
INLINE float quantize_int16(const float *x, int64_t size, int16_t *out)
{
    float max = 0.0f;
    for (int64_t begin = 0; begin < size; begin += INT16_PART) {
        __m512 squares = _mm512_setzero_ps();
        for (int64_t at = begin; at < min_int64(size, begin + INT16_PART); at += LANES)
            squares = _mm512_fmadd_ps(_mm512_loadu_ps(x + at), _mm512_loadu_ps(x + at), squares);
        float sum = _mm512_reduce_add_ps(squares);
        max = max != max || sum <= max ? max : sum; /* NaN stays NaN */
    }
    float norm = __builtin_sqrtf(max);
    norm = norm < MIN_NORM ? MIN_NORM : norm;
    __m512 factor = _mm512_set1_ps(MAX_INT16_NORM / norm);
    for (int64_t at = 0; at < size; at += LANES)
        store_int16(out + at, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + at), factor)));
    return __builtin_isfinite(norm) ? norm / MAX_INT16_NORM : __builtin_nanf("");
}

/* Symmetric about a zero point. Returns the scale, which is NaN where a number is not finite. */
INLINE float quantize_int8_symmetric(int zero_point, const float *x, int64_t size, uint8_t *out)
{
    __m512i max = _mm512_setzero_si512(); /* bits of positive numbers are in their order, those of NaN last */
    for (int64_t at = 0; at < size; at += LANES)
        max = _mm512_max_epu32(max, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + at))));
    union {
        uint32_t bits;
        float number;
    } span = {_mm512_reduce_max_epu32(max)};
    __m512 factor = _mm512_set1_ps((float)MAX_INT8 / (span.number > MIN_SPAN ? span.number : MIN_SPAN));
    __m512i zero = _mm512_set1_epi32(zero_point);
    for (int64_t at = 0; at < size; at += LANES) {
        __m512i numbers = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + at), factor));
        _mm_storeu_si128((__m128i *)(out + at), _mm512_cvtepi32_epi8(_mm512_add_epi32(numbers, zero)));
    }
    return __builtin_isfinite(span.number) ? span.number / (float)MAX_INT8 : __builtin_nanf("");
}

INLINE QuantParams quantize_between(Extremes extremes, const float *x, int64_t size, uint8_t *out)
{
    QuantParams params;
    params.minimum = _mm512_reduce_min_ps(extremes.min);
    float span = _mm512_reduce_max_ps(extremes.max) - params.minimum;
    params.scale = _mm512_fpclass_ps_mask(extremes.sum, NOT_FINITE) ? __builtin_nanf("") : span / (float)MAX_UINT8;
    __m512 minimum = _mm512_set1_ps(params.minimum);
    __m512 factor = _mm512_set1_ps((float)MAX_UINT8 / (span > MIN_SPAN ? span : MIN_SPAN));
    for (int64_t at = 0; at < size; at += LANES) {
        __m512 numbers = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at), minimum), factor);
        _mm_storeu_si128((__m128i *)(out + at), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(numbers)));
    }
    return params;
}

INLINE Extremes rotate_block(int size, const float *x, float *out, Extremes extremes)
{
    __m512 block[ROTATED];
#pragma GCC unroll 16
    for (int i = 0; i < size; i++)
        block[i] = _mm512_loadu_ps(x + i * LANES);
    return rotate(size, block, out, extremes);
}

/* rotated: room for the rotated row, which may be `x`. */
INLINE QuantParams quantize_int8_rotated(const float *x, int64_t size, uint8_t *out, float *rotated)
{
    Extremes extremes = no_extremes();
    int block_size = rotation_size(size);
    for (int64_t at = 0; at < size; at += block_size * LANES)
        switch (block_size) {
        case 4: extremes = rotate_block(4, x + at, rotated + at, extremes); break;
        case 8: extremes = rotate_block(8, x + at, rotated + at, extremes); break;
        default: extremes = rotate_block(ROTATED, x + at, rotated + at, extremes);
        }
    return quantize_between(extremes, rotated, size, out);
}

/* A row as the next layer reads it. */
INLINE QuantParams quantize_row(const float *x, const Linear *next, int32_t *words, float *rotated)
{
    if (next->precision == INT8)
        return quantize_int8_rotated(x, next->in_features, (uint8_t *)words, rotated);
    return (QuantParams){quantize_int16(x, next->in_features, (int16_t *)words), 0.0f};
}

#endif
