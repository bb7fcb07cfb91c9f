/* The twin of avx512/attention.h in plain C: the textbook's equation, in which probabilities are not quantized. */

#ifndef SPACY_ELECTRA_SCALAR_ATTENTION_H
#define SPACY_ELECTRA_SCALAR_ATTENTION_H

#include <math.h>

#include "../operands.h"

INTERNAL float score(const AttentionHead *head, int64_t query, int64_t key)
{
    const int16_t *q = head->queries + query * head->stride, *k = head->keys + key * head->stride;
    int64_t sum = 0;
    for (int64_t channel = 0; channel < head->head_dim; channel++)
        sum += head->precision == INT8
                   ? (((const uint8_t *)q)[channel] - QUERY_ZERO_POINT) * ((const int8_t *)k)[channel]
                   : q[channel] * k[channel];
    float scale = head->query_scales[query * head->scale_stride] * head->key_scales[key * head->scale_stride];
    return (float)sum * scale / sqrtf((float)head->head_dim);
}

/* out = softmax(q k' / sqrt(head_dim)) v for the queries in a range of rows, each `stride` numbers from the next */
INTERNAL void attend(AttentionHead head, Range range, AttentionBuffers buffers, float *out, int64_t stride)
{
    float *scores = buffers.scores;
    for (int64_t query = range.begin; query < range.end; query++) {
        float max = -INFINITY, total = 0.0f;
        for (int64_t key = 0; key < head.length; key++) {
            scores[key] = score(&head, query, key);
            max = fmaxf(max, scores[key]);
        }
        for (int64_t key = 0; key < head.length; key++) {
            scores[key] = expf(scores[key] - max);
            total += scores[key];
        }
        for (int64_t channel = 0; channel < head.head_dim; channel++) {
            float sum = 0.0f;
            for (int64_t key = 0; key < head.length; key++)
                sum += scores[key] / total * (float)head.values[key * head.stride + channel]
                       * head.value_scales[key * head.scale_stride];
            out[query * stride + channel] = sum;
        }
    }
}

#endif
