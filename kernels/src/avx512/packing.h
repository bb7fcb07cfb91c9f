/* Keys and values of one head, packed as the right side of matrix multiplications. */

#ifndef SPACY_ELECTRA_AVX512_PACKING_H
#define SPACY_ELECTRA_AVX512_PACKING_H

#include <immintrin.h>

#include "../operands.h"

/* 16 x 16 words from rows to columns: `out` are rows of `stride` words. */
INLINE void transpose(__m512i rows[LANES], int32_t *out, int64_t stride)
{
    __m512i pairs[LANES], fours[LANES], eights[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        eights[i] = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0x88);
        eights[i + 4] = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0xdd);
        eights[i + 8] = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0x88);
        eights[i + 12] = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(out + i * stride, _mm512_shuffle_i32x4(eights[i], eights[i + 8], 0x88));
        _mm512_storeu_si512(out + (i + 4) * stride, _mm512_shuffle_i32x4(eights[i + 4], eights[i + 12], 0x88));
        _mm512_storeu_si512(out + (i + 8) * stride, _mm512_shuffle_i32x4(eights[i], eights[i + 8], 0xdd));
        _mm512_storeu_si512(out + (i + 12) * stride, _mm512_shuffle_i32x4(eights[i + 4], eights[i + 12], 0xdd));
    }
}

/* A word is two channels, a column a row of the sequence; columns behind the last are 0. */
INTERNAL void pack_keys(HeadRows keys, int32_t *packed)
{
    int64_t words = keys.channels / 2, columns = round_up(keys.length, LANES);
    for (int64_t row = 0; row < columns; row += LANES) {
        int64_t panel = row / PANEL * PANEL, width = panel_width(panel, columns);
        for (int64_t word = 0; word < words; word += LANES) {
            __mmask16 valid = words - word < LANES ? (__mmask16)((1u << (words - word)) - 1) : 0xffff;
            __m512i block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                __mmask16 mask = row + i < keys.length ? valid : 0;
                block[i] = _mm512_maskz_loadu_epi32(mask, keys.data + (row + i) * keys.stride + 2 * word);
            }
            transpose(block, packed + panel * words + word * width + row - panel, width);
        }
    }
}

/* A word is the same channel of two rows, a column a channel; rows behind the last are 0. */
INTERNAL void pack_values(HeadRows values, int32_t *packed)
{
    const __m256i zeros = _mm256_setzero_si256();
    int64_t depth = round_up(values.length, LANES) / 2;
    for (int64_t channel = 0; channel < values.channels; channel += LANES) {
        int64_t panel = channel / PANEL * PANEL, width = panel_width(panel, values.channels);
        int32_t *out = packed + panel * depth + channel - panel;
        for (int64_t step = 0; step < depth; step++, out += width) {
            const int16_t *row = values.data + 2 * step * values.stride + channel;
            __m256i even = 2 * step < values.length ? _mm256_loadu_si256((const __m256i *)row) : zeros;
            __m256i odd =
                2 * step + 1 < values.length ? _mm256_loadu_si256((const __m256i *)(row + values.stride)) : zeros;
            __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
            _mm512_storeu_si512(out, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
        }
    }
}

/* What QUERY_ZERO_POINT adds to the sums of a query with each packed key in int8. */
INTERNAL void sum_packed_keys(const int32_t *packed, int64_t columns, int64_t depth, float *offsets)
{
    const __m512i zero_point = _mm512_set1_epi8((char)QUERY_ZERO_POINT);
    for (int64_t panel = 0; panel < columns; panel += PANEL) {
        int64_t width = panel_width(panel, columns);
        for (int64_t column = 0; column < width; column += LANES) {
            const int32_t *keys = packed + panel * depth + column;
            __m512i sum = _mm512_setzero_si512();
            for (int64_t step = 0; step < depth; step++)
                sum = _mm512_dpbusd_epi32(sum, zero_point, _mm512_loadu_si512(keys + step * width));
            _mm512_storeu_ps(offsets + panel + column, _mm512_cvtepi32_ps(sum));
        }
    }
}

#endif
