/* What follows a layer's matrix multiplication: bias and scales, then what comes before the next one. */

#ifndef SPACY_ELECTRA_AVX512_EPILOGUES_H
#define SPACY_ELECTRA_AVX512_EPILOGUES_H

#include <immintrin.h>

#include "../operands.h"
#include "activations.h"
#include "layer_norm.h"
#include "quantize.h"

/* Output `at` to `at` + 15 of a layer, bias included, from the sums of one row. */
INLINE __m512 output_at(const Linear *layer, const float *sums, QuantParams params, int64_t at)
{
    __m512 rest = _mm512_loadu_ps(layer->bias + at);
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(layer->scales + at), _mm512_set1_ps(params.scale));
    if (layer->precision == INT8)
        rest = _mm512_fmadd_ps(_mm512_loadu_ps(layer->weight_sums + at), _mm512_set1_ps(params.minimum), rest);
    return _mm512_fmadd_ps(_mm512_loadu_ps(sums + at), scale, rest);
}

/* out = outputs `begin` to `begin` + `count` of a row */
INLINE void dequantize(const Linear *layer, const float *sums, QuantParams params, int64_t begin, int64_t count,
                       float *out)
{
    for (int64_t at = 0; at < count; at += LANES)
        _mm512_storeu_ps(out + at, output_at(layer, sums, params, begin + at));
}

INLINE void add_and_norm_some(int count, float *x, const Linear *layer, const float *sums, const QuantParams *params,
                              LayerNorm norm)
{
    int64_t width = layer->out_features;
    __m512 totals[NORM_ROWS];
    for (int i = 0; i < count; i++)
        totals[i] = _mm512_setzero_ps();
    for (int64_t at = 0; at < width; at += LANES)
        for (int i = 0; i < count; i++) {
            float *place = x + i * width + at;
            __m512 output = output_at(layer, sums + i * width, params[i], at);
            __m512 sum = _mm512_add_ps(_mm512_loadu_ps(place), output);
            _mm512_storeu_ps(place, sum);
            totals[i] = _mm512_add_ps(totals[i], sum);
        }
    layer_norm_rows(count, x, width, totals, norm);
}

/* x = norm(x + outputs), for rows that stand one after another */
INTERNAL void add_and_norm(float *x, const Linear *layer, const float *sums, const QuantParams *params, int64_t rows,
                           LayerNorm norm)
{
    int64_t row = 0, width = layer->out_features;
    for (; row + NORM_ROWS <= rows; row += NORM_ROWS)
        add_and_norm_some(NORM_ROWS, x + row * width, layer, sums + row * width, params + row, norm);
    for (; row < rows; row++)
        add_and_norm_some(1, x + row * width, layer, sums + row * width, params + row, norm);
}

INLINE Extremes gelu_block(int size, const Linear *up, const float *sums, QuantParams params, int64_t at, float *out,
                           Extremes extremes)
{
    __m512 block[ROTATED];
#pragma GCC unroll 16
    for (int i = 0; i < size; i++)
        block[i] = gelu_for_int8(output_at(up, sums, params, at + i * LANES));
    return rotate(size, block, out + at, extremes);
}

/* GELU of one row of outputs of `up`, as `down` reads it. scratch: room for such a row. */
INLINE QuantParams gelu_and_quantize(const Linear *up, const Linear *down, const float *sums, QuantParams params,
                                     float *scratch, int32_t *words)
{
    int64_t inner = up->out_features;
    if (down->precision == INT8) {
        Extremes extremes = no_extremes();
        int size = rotation_size(inner);
        for (int64_t at = 0; at < inner; at += size * LANES)
            switch (size) {
            case 4: extremes = gelu_block(4, up, sums, params, at, scratch, extremes); break;
            case 8: extremes = gelu_block(8, up, sums, params, at, scratch, extremes); break;
            default: extremes = gelu_block(ROTATED, up, sums, params, at, scratch, extremes);
            }
        return quantize_between(extremes, scratch, inner, (uint8_t *)words);
    }
    for (int64_t at = 0; at < inner; at += LANES)
        _mm512_storeu_ps(scratch + at, gelu(output_at(up, sums, params, at)));
    return quantize_row(scratch, down, words, scratch);
}

#endif
