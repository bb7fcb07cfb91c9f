/* The twin of avx512/epilogues.h in plain C, with the GELU of the C library's erff. */

#ifndef SPACY_ELECTRA_SCALAR_EPILOGUES_H
#define SPACY_ELECTRA_SCALAR_EPILOGUES_H

#include <math.h>

#include "../operands.h"
#include "layer_norm.h"
#include "quantize.h"

INTERNAL float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

INTERNAL void dequantize(const Linear *layer, const float *sums, QuantParams params, int64_t begin, int64_t count,
                         float *out)
{
    for (int64_t at = begin; at < begin + count; at++) {
        float offset = layer->precision == INT8 ? params.minimum * layer->weight_sums[at] : 0.0f;
        out[at - begin] = sums[at] * layer->scales[at] * params.scale + offset + layer->bias[at];
    }
}

INTERNAL void add_and_norm(float *x, const Linear *layer, const float *sums, const QuantParams *params, int64_t rows,
                           LayerNorm norm)
{
    int64_t width = layer->out_features;
    for (int64_t row = 0; row < rows; row++, x += width, sums += width) {
        for (int64_t at = 0; at < width; at++) {
            float output;
            dequantize(layer, sums, params[row], at, 1, &output);
            x[at] += output;
        }
        layer_norm(x, width, norm);
    }
}

INTERNAL QuantParams gelu_and_quantize(const Linear *up, const Linear *down, const float *sums, QuantParams params,
                                       float *scratch, int32_t *words)
{
    dequantize(up, sums, params, 0, up->out_features, scratch);
    for (int64_t at = 0; at < up->out_features; at++)
        scratch[at] = gelu(scratch[at]);
    return quantize_row(scratch, down, words, scratch);
}

#endif
