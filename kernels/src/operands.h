/* What the kernels take and give. The kernels in `avx512/` and their scalar twins in `scalar/` share these types. */

#ifndef SPACY_ELECTRA_OPERANDS_H
#define SPACY_ELECTRA_OPERANDS_H

#include "abi.h"
#include "common.h"

enum { QUERY_ZERO_POINT = 128 }; /* of int8 queries, which are stored as unsigned bytes */
enum { MAX_UINT8 = 255, MAX_INT8 = 127 };

#define MIN_SPAN 1e-30f         /* of int8: what is less counts as this */
#define MIN_NORM 1e-15f         /* of int16: squares of what is less have lost their digits */
#define MAX_INT16_NORM 32700.0f /* of a part of a row in int16; with what rounding adds to it still less than 2^15 */
#define MAX_INT32_SUM 2.147e9f

/* The left side of a matrix multiplication: rows of words, `stride` words from one to the next. */
typedef struct {
    const int32_t *words;
    int64_t stride;
} GemmRows;

/* Where its sums go, `stride` numbers from one row to the next. */
typedef struct {
    float *sums;
    int64_t stride;
} GemmSums;

/* What the quantized values of a row mean: minimum + scale * value. */
typedef struct {
    float scale;
    float minimum;
} QuantParams;

/* Keys or values of one head in one sequence, in words of two int16 each. Keys in int8 have half as many channels. */
typedef struct {
    const int16_t *data;
    int64_t stride; /* numbers from one row to the next */
    int64_t length;
    int64_t channels;
} HeadRows;

/* Queries, keys and values of one head in one sequence. They are `stride` int16 from one row to the next; int8 fill the
   first half of their place. Values are int16 in any case. */
typedef struct {
    Precision precision; /* of queries and keys */
    const int16_t *queries;
    const int16_t *keys;
    const int16_t *values;
    int64_t stride;
    const float *query_scales; /* of each row, `scale_stride` from one to the next */
    const float *key_scales;
    const float *value_scales;
    int64_t scale_stride;
    int64_t length;
    int64_t head_dim;
} AttentionHead;

/* Buffers for one head in a sequence of at most `room` rows, a multiple of 16. */
typedef struct {
    int32_t *keys;          /* (head_dim / 2, room) in panels; half as many rows of int8 */
    int32_t *values;        /* (room / 2, head_dim) in panels */
    float *key_offsets;     /* (room,) what QUERY_ZERO_POINT adds to the sums with each key, where keys are int8 */
    float *key_scales;      /* (room,) with log2(e) / sqrt(head_dim) in them */
    float *value_scales;    /* (room,) */
    float *scores;          /* (TILE_ROWS, room) */
    int32_t *probabilities; /* (TILE_ROWS, room / 2) */
    float *context;         /* (TILE_ROWS, head_dim) */
} AttentionBuffers;

INLINE int64_t words_of(const Linear *layer)
{
    return layer->in_features / (layer->precision == INT8 ? 4 : 2);
}

#endif
