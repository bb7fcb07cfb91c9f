/* LayerNorm of rows of numbers, in place. */

#ifndef SPACY_ELECTRA_AVX512_LAYER_NORM_H
#define SPACY_ELECTRA_AVX512_LAYER_NORM_H

#include <immintrin.h>

#include "../abi.h"
#include "../common.h"

enum { NORM_ROWS = 4 }; /* at once: what follows from one's sums waits for them, and the others fill the time */

/* Rows that stand one after another. `sums` are of their registers. `count` is a constant where this is called. */
INLINE void layer_norm_rows(int count, float *x, int64_t width, const __m512 *sums, LayerNorm norm)
{
    __m512 squares[NORM_ROWS], mean[NORM_ROWS], inverse[NORM_ROWS];
    for (int i = 0; i < count; i++) {
        mean[i] = _mm512_set1_ps(_mm512_reduce_add_ps(sums[i]) / (float)width);
        squares[i] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < width; at += LANES)
        for (int i = 0; i < count; i++) {
            __m512 centered = _mm512_sub_ps(_mm512_loadu_ps(x + i * width + at), mean[i]);
            squares[i] = _mm512_fmadd_ps(centered, centered, squares[i]);
        }
    for (int i = 0; i < count; i++)
        inverse[i] = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares[i]) / (float)width + norm.eps));
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 gamma = _mm512_loadu_ps(norm.gamma + at), beta = _mm512_loadu_ps(norm.beta + at);
        for (int i = 0; i < count; i++) {
            float *place = x + i * width + at;
            __m512 x_hat = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(place), mean[i]), inverse[i]);
            _mm512_storeu_ps(place, _mm512_fmadd_ps(x_hat, gamma, beta));
        }
    }
}

INLINE void layer_norm(float *x, int64_t width, LayerNorm norm)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t at = 0; at < width; at += LANES)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + at));
    layer_norm_rows(1, x, width, &sum, norm);
}

/* out = norm(a + b) */
INLINE void add_and_norm_embeddings(const float *a, const float *b, float *out, int64_t width, LayerNorm norm)
{
    for (int64_t at = 0; at < width; at += LANES)
        _mm512_storeu_ps(out + at, _mm512_add_ps(_mm512_loadu_ps(a + at), _mm512_loadu_ps(b + at)));
    layer_norm(out, width, norm);
}

#endif
