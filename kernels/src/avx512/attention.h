/* Attention of one head inside one sequence. Values and probabilities are int16, queries and keys int16 or int8, each
   row of them with its scale. Sums are exact, the softmax is in float32. */

#ifndef SPACY_ELECTRA_AVX512_ATTENTION_H
#define SPACY_ELECTRA_AVX512_ATTENTION_H

#include <immintrin.h>

#include "../operands.h"
#include "activations.h"
#include "gemm.h"
#include "packing.h"
#include "quantize.h"

/* The scales of keys and values side by side; those of columns behind the last are 0. */
INTERNAL void gather_scales(const AttentionHead *head, AttentionBuffers buffers)
{
    float unit = 1.4426950408889634f / __builtin_sqrtf((float)head->head_dim);
    for (int64_t row = 0; row < round_up(head->length, LANES); row++) {
        buffers.key_scales[row] = row < head->length ? unit * head->key_scales[row * head->scale_stride] : 0.0f;
        buffers.value_scales[row] = row < head->length ? head->value_scales[row * head->scale_stride] : 0.0f;
    }
}

/* The norm that a row of quantized probabilities may have: so that none of them overflows, and by Cauchy and Schwarz no
   sum with the values of any channel. */
INTERNAL float max_probability_norm(const AttentionHead *head)
{
    __m512 max = _mm512_set1_ps(1.0f);
    for (int64_t at = 0; at < head->head_dim; at += LANES) {
        __m512 squares = _mm512_setzero_ps();
        for (int64_t row = 0; row < head->length; row++) {
            __m256i values = _mm256_loadu_si256((const __m256i *)(head->values + row * head->stride + at));
            __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(values));
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        max = _mm512_max_ps(max, squares);
    }
    float rounding = 0.5f * __builtin_sqrtf((float)head->length);
    float by_sum = MAX_INT32_SUM / __builtin_sqrtf(_mm512_reduce_max_ps(max)) - rounding;
    return by_sum < MAX_INT16_NORM ? by_sum : MAX_INT16_NORM;
}

/* Queries next to each other, whose scores and probabilities begin at row `buffer_row` of the buffers. */
typedef struct {
    int64_t first; /* row of the sequence */
    int64_t buffer_row;
    int64_t columns;
    float max_norm; /* of their rows of quantized probabilities */
} QueryTile;

/* Sums of `count` queries with all keys, which are changed, -> probabilities in int16, each times the scale of its
   value. `scales` are of these probabilities, after the division by their sum: the number that brings them closest to
   what they were, so that nothing is lost where all are rounded alike. `count` and `precision` are constants where this
   is called: what follows from a row's sums waits for them, and other rows fill the time. */
INLINE void softmax(int count, Precision precision, const AttentionHead *head, QueryTile queries,
                    AttentionBuffers buffers, float *scales)
{
    int64_t last = (head->length - 1) / LANES * LANES, columns = queries.columns;
    __mmask16 valid = (__mmask16)(0xffffu >> (LANES - (head->length - last)));
    float *scores = buffers.scores + queries.buffer_row * columns, square[TILE_ROWS];
    int16_t *probabilities = (int16_t *)buffers.probabilities + queries.buffer_row * columns;
    __m512 highest[TILE_ROWS], query[TILE_ROWS], max[TILE_ROWS], sum[TILE_ROWS], squares[TILE_ROWS], factor[TILE_ROWS];
    __m512 rounded[TILE_ROWS];
    for (int i = 0; i < count; i++)
        highest[i] = _mm512_set1_ps(-__builtin_inff());
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 scale = _mm512_loadu_ps(buffers.key_scales + at);
        __mmask16 mask = at < last ? 0xffff : valid;
        for (int i = 0; i < count; i++) {
            float *place = scores + i * columns + at;
            __m512 score = _mm512_loadu_ps(place);
            if (precision == INT8)
                score = _mm512_sub_ps(score, _mm512_loadu_ps(buffers.key_offsets + at));
            score = _mm512_mul_ps(score, scale);
            _mm512_storeu_ps(place, score);
            highest[i] = _mm512_mask_max_ps(highest[i], mask, highest[i], score);
        }
    }
    for (int i = 0; i < count; i++) {
        query[i] = _mm512_set1_ps(head->query_scales[(queries.first + i) * head->scale_stride]);
        max[i] = _mm512_set1_ps(_mm512_reduce_max_ps(highest[i]));
        sum[i] = squares[i] = rounded[i] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 scale = _mm512_loadu_ps(buffers.value_scales + at);
        __mmask16 mask = at < last ? 0xffff : valid;
        for (int i = 0; i < count; i++) {
            float *place = scores + i * columns + at;
            __m512 below = _mm512_sub_ps(_mm512_loadu_ps(place), max[i]);
            __m512 probability = _mm512_maskz_mov_ps(mask, exp2_ps(_mm512_mul_ps(below, query[i])));
            __m512 scaled = _mm512_mul_ps(probability, scale);
            _mm512_storeu_ps(place, scaled);
            sum[i] = _mm512_add_ps(sum[i], probability);
            squares[i] = _mm512_fmadd_ps(scaled, scaled, squares[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        square[i] = _mm512_reduce_add_ps(squares[i]);
        float norm = __builtin_sqrtf(square[i]);
        factor[i] = _mm512_set1_ps(queries.max_norm / (norm < MIN_NORM ? MIN_NORM : norm));
    }
    for (int64_t at = 0; at <= last; at += LANES)
        for (int i = 0; i < count; i++) {
            __m512 scaled = _mm512_loadu_ps(scores + i * columns + at);
            __m512i numbers = _mm512_cvtps_epi32(_mm512_mul_ps(scaled, factor[i]));
            rounded[i] = _mm512_fmadd_ps(scaled, _mm512_cvtepi32_ps(numbers), rounded[i]);
            store_int16(probabilities + i * columns + at, numbers);
        }
    for (int i = 0; i < count; i++) {
        if (square[i] > MIN_NORM * MIN_NORM)
            scales[i] = square[i] / (_mm512_reduce_add_ps(rounded[i]) * _mm512_reduce_add_ps(sum[i]));
        else /* values are 0, or something is not finite */
            scales[i] = square[i] <= MIN_NORM * MIN_NORM ? 0.0f : square[i];
    }
}

INLINE void attend_by(Precision precision, AttentionHead head, Range range, AttentionBuffers buffers, float *out,
                      int64_t stride)
{
    int64_t columns = round_up(head.length, LANES), depth = head.head_dim / (precision == INT8 ? 4 : 2);
    pack_keys((HeadRows){head.keys, head.stride, head.length, 2 * depth}, buffers.keys);
    if (precision == INT8)
        sum_packed_keys(buffers.keys, columns, depth, buffers.key_offsets);
    pack_values((HeadRows){head.values, head.stride, head.length, head.head_dim}, buffers.values);
    gather_scales(&head, buffers);
    QueryTile queries = {range.begin, 0, columns, max_probability_norm(&head)};
    for (; queries.first < range.end; queries.first += TILE_ROWS) {
        int64_t row = queries.first;
        int rows = (int)(range.end - row < TILE_ROWS ? range.end - row : TILE_ROWS);
        GemmRows words = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        gemm(precision, words, rows, buffers.keys, columns, depth, (GemmSums){buffers.scores, columns});
        float scales[TILE_ROWS];
        if (rows == TILE_ROWS)
            softmax(TILE_ROWS, precision, &head, queries, buffers, scales);
        else
            for (int i = 0; i < rows; i++)
                softmax(1, precision, &head, (QueryTile){row + i, i, columns, queries.max_norm}, buffers, scales + i);
        GemmRows probabilities = {buffers.probabilities, columns / 2};
        gemm(INT16, probabilities, rows, buffers.values, head.head_dim, columns / 2,
             (GemmSums){buffers.context, head.head_dim});
        for (int i = 0; i < rows; i++)
            for (int64_t at = 0; at < head.head_dim; at += LANES) {
                __m512 context = _mm512_loadu_ps(buffers.context + i * head.head_dim + at);
                _mm512_storeu_ps(out + (row + i) * stride + at, _mm512_mul_ps(context, _mm512_set1_ps(scales[i])));
            }
    }
}

/* out = softmax(q k' / sqrt(head_dim)) v for the queries in a range of rows, each `stride` numbers from the next */
INTERNAL void attend(AttentionHead head, Range range, AttentionBuffers buffers, float *out, int64_t stride)
{
    if (head.precision == INT8)
        attend_by(INT8, head, range, buffers, out, stride);
    else
        attend_by(INT16, head, range, buffers, out, stride);
}

#endif
