/* The twin of avx512/quantize.h in plain C. */

#ifndef SPACY_ELECTRA_SCALAR_QUANTIZE_H
#define SPACY_ELECTRA_SCALAR_QUANTIZE_H

#include <math.h>

#include "../operands.h"

/* To the nearest integer in a range, half to even. */
INTERNAL int32_t round_between(float min, float x, float max)
{
    return x >= min ? (int32_t)lrintf(x < max ? x : max) : (int32_t)min;
}

INTERNAL float quantize_int16(const float *x, int64_t size, int16_t *out)
{
    float max = 0.0f;
    for (int64_t begin = 0; begin < size; begin += INT16_PART) {
        float squares = 0.0f;
        for (int64_t at = begin; at < min_int64(size, begin + INT16_PART); at++)
            squares += x[at] * x[at];
        if (!(squares <= max) && !isnan(max))
            max = squares;
    }
    float norm = sqrtf(max) < MIN_NORM ? MIN_NORM : sqrtf(max), factor = MAX_INT16_NORM / norm;
    for (int64_t at = 0; at < size; at++)
        out[at] = (int16_t)round_between(-32768.0f, x[at] * factor, 32767.0f);
    return isfinite(norm) ? norm / MAX_INT16_NORM : NAN;
}

INTERNAL float quantize_int8_symmetric(int zero_point, const float *x, int64_t size, uint8_t *out)
{
    float max = 0.0f;
    for (int64_t at = 0; at < size; at++)
        if (!(fabsf(x[at]) <= max) && !isnan(max))
            max = fabsf(x[at]);
    float factor = (float)MAX_INT8 / (max > MIN_SPAN ? max : MIN_SPAN);
    for (int64_t at = 0; at < size; at++)
        out[at] = (uint8_t)(round_between(-(float)MAX_INT8, x[at] * factor, (float)MAX_INT8) + zero_point);
    return isfinite(max) ? max / (float)MAX_INT8 : NAN;
}

/* Blocks of registers by a Hadamard matrix, whose element (i, j) is -1 where i and j share an odd number of bits.
   `out` may be `x`. */
INTERNAL void rotate_row(const float *x, int64_t size, float *out)
{
    int order = rotation_size(size);
    for (int64_t begin = 0; begin < size; begin += order * LANES)
        for (int64_t lane = begin; lane < begin + LANES; lane++) {
            float column[ROTATED];
            for (int i = 0; i < order; i++)
                column[i] = x[lane + i * LANES];
            for (int i = 0; i < order; i++) {
                float sum = 0.0f;
                for (int j = 0; j < order; j++)
                    sum += __builtin_parity((unsigned)(i & j)) ? -column[j] : column[j];
                out[lane + i * LANES] = sum;
            }
        }
}

INTERNAL QuantParams quantize_between_extremes(const float *x, int64_t size, uint8_t *out)
{
    float min = INFINITY, max = -INFINITY, total = 0.0f;
    for (int64_t at = 0; at < size; at++) {
        min = fminf(min, x[at]);
        max = fmaxf(max, x[at]);
        total += x[at];
    }
    float span = max - min, factor = (float)MAX_UINT8 / (span > MIN_SPAN ? span : MIN_SPAN);
    for (int64_t at = 0; at < size; at++)
        out[at] = (uint8_t)round_between(0.0f, (x[at] - min) * factor, (float)MAX_UINT8);
    return (QuantParams){isfinite(total) ? span / (float)MAX_UINT8 : NAN, min};
}

/* rotated: room for the rotated row, which may be `x`. */
INTERNAL QuantParams quantize_int8_rotated(const float *x, int64_t size, uint8_t *out, float *rotated)
{
    rotate_row(x, size, rotated);
    return quantize_between_extremes(rotated, size, out);
}

INTERNAL QuantParams quantize_row(const float *x, const Linear *next, int32_t *words, float *rotated)
{
    if (next->precision == INT8)
        return quantize_int8_rotated(x, next->in_features, (uint8_t *)words, rotated);
    return (QuantParams){quantize_int16(x, next->in_features, (int16_t *)words), 0.0f};
}

#endif
