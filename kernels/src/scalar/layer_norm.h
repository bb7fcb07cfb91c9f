/* The twin of avx512/layer_norm.h in plain C. */

#ifndef SPACY_ELECTRA_SCALAR_LAYER_NORM_H
#define SPACY_ELECTRA_SCALAR_LAYER_NORM_H

#include <math.h>

#include "../abi.h"
#include "../common.h"

INTERNAL void layer_norm(float *x, int64_t width, LayerNorm norm)
{
    float mean = 0.0f, variance = 0.0f;
    for (int64_t at = 0; at < width; at++)
        mean += x[at] / (float)width;
    for (int64_t at = 0; at < width; at++)
        variance += (x[at] - mean) * (x[at] - mean) / (float)width;
    for (int64_t at = 0; at < width; at++)
        x[at] = (x[at] - mean) / sqrtf(variance + norm.eps) * norm.gamma[at] + norm.beta[at];
}

INTERNAL void add_and_norm_embeddings(const float *a, const float *b, float *out, int64_t width, LayerNorm norm)
{
    for (int64_t at = 0; at < width; at++)
        out[at] = a[at] + b[at];
    layer_norm(out, width, norm);
}

#endif
