/* The stages of an encoder, each for some rows of a chunk of sequences. Between layers hidden states are float32. */

#ifndef SPACY_ELECTRA_STAGES_H
#define SPACY_ELECTRA_STAGES_H

#include <string.h>

#include "abi.h"
#include "common.h"
#include "kernels.h"
#include "operands.h"

enum { BLOCK = 48 }; /* rows that go through a matrix multiplication before what follows it */

/* Tokens of some sequences, one sequence after another. */
typedef struct {
    int64_t first; /* sequence */
    int64_t end;
    int64_t token;  /* the first */
    float *hidden;  /* (rows, D) */
    int16_t *qkv;   /* (rows, 3 x D) queries, keys and values of all heads; int8 fill the first half of a head's */
    float *scales;  /* (rows, 3 x heads) of these */
    float *context; /* (rows, D) what attention gives */
} Chunk;

/* What a thread has for itself. */
typedef struct {
    float *sums;               /* (BLOCK, most outputs) of a matrix multiplication */
    int32_t *words;            /* (BLOCK, most inputs) its left side */
    QuantParams params[BLOCK]; /* of these rows */
    float *row;                /* (most inputs,) */
    AttentionBuffers attention;
} Buffers;

/* Queries and keys are int8 where the layer behind attention is, in the first layer as well. */
INLINE Precision precision_of_scores(const Layer *layer)
{
    return layer->output.precision == INT8 ? INT8 : INT16;
}

INLINE void quantize_to(Buffers *buffers, int64_t row, const float *x, const Linear *next)
{
    buffers->params[row] = quantize_row(x, next, buffers->words + row * words_of(next), buffers->row);
}

/* The sums of a layer with the rows that were quantized for it. */
INLINE void multiply(const Linear *layer, Buffers *buffers, int64_t rows)
{
    int64_t depth = words_of(layer);
    GemmRows x = {buffers->words, depth};
    GemmSums out = {buffers->sums, layer->out_features};
    if (layer->precision == INT8)
        gemm(INT8, x, rows, layer->weights, layer->out_features, depth, out);
    else
        gemm(INT16, x, rows, layer->weights, layer->out_features, depth, out);
}

INTERNAL void embed(const Encoder *encoder, const Batch *batch, Chunk *chunk, Buffers *buffers, Range range)
{
    const Linear *projection = &encoder->projection;
    int64_t width = encoder->embedding_size, hidden_size = encoder->hidden_size;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = min_int64(range.end - begin, BLOCK);
        float *hidden = chunk->hidden + begin * hidden_size;
        for (int64_t row = 0; row < rows; row++) {
            int64_t token = chunk->token + begin + row;
            const float *word = encoder->word_embeddings + batch->input_ids[token] * width;
            const float *position = encoder->position_embeddings + batch->position_ids[token] * width;
            float *sum = projection->weights ? buffers->row : hidden + row * hidden_size;
            add_and_norm_embeddings(word, position, sum, width, encoder->embedding_norm);
            if (projection->weights)
                quantize_to(buffers, row, sum, projection);
        }
        if (!projection->weights)
            continue;
        multiply(projection, buffers, rows);
        for (int64_t row = 0; row < rows; row++)
            dequantize(projection, buffers->sums + row * hidden_size, buffers->params[row], 0, hidden_size,
                       hidden + row * hidden_size);
    }
}

/* Queries, keys or values of one head and row, from the sums of `qkv`. Returns their scale. */
INLINE float quantize_head(Precision precision, int zero_point, int64_t head_dim, const Linear *qkv, int64_t begin,
                           const Buffers *buffers, int64_t row, int16_t *out)
{
    float *numbers = buffers->row + begin;
    dequantize(qkv, buffers->sums + row * qkv->out_features, buffers->params[row], begin, head_dim, numbers);
    if (precision == INT8)
        return quantize_int8_symmetric(zero_point, numbers, head_dim, (uint8_t *)out);
    return quantize_int16(numbers, head_dim, out);
}

INTERNAL void qkv_projection(const Encoder *encoder, const Layer *layer, Chunk *chunk, Buffers *buffers, Range range)
{
    const Linear *qkv = &layer->qkv;
    int64_t heads = encoder->num_heads, parts = 3 * heads, head_dim = encoder->hidden_size / heads;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = min_int64(range.end - begin, BLOCK);
        for (int64_t row = 0; row < rows; row++)
            quantize_to(buffers, row, chunk->hidden + (begin + row) * qkv->in_features, qkv);
        multiply(qkv, buffers, rows);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t part = 0; part < parts; part++) {
                Precision precision = part < 2 * heads ? precision_of_scores(layer) : INT16;
                int zero_point = part < heads ? QUERY_ZERO_POINT : 0;
                int64_t at = part * head_dim;
                int16_t *out = chunk->qkv + (begin + row) * qkv->out_features + at;
                chunk->scales[(begin + row) * parts + part] =
                    head_dim == 64 ? quantize_head(precision, zero_point, 64, qkv, at, buffers, row, out) /* unrolled */
                                   : quantize_head(precision, zero_point, head_dim, qkv, at, buffers, row, out);
            }
    }
}

/* Of the rows of a range, each inside its own sequence. */
INTERNAL void attention(const Encoder *encoder, const Layer *layer, const Batch *batch, Chunk *chunk, Buffers *buffers,
                        Range range)
{
    int64_t width = encoder->hidden_size, heads = encoder->num_heads, head_dim = width / heads;
    for (int64_t sequence = chunk->first; sequence < chunk->end; sequence++) {
        int64_t start = batch->cu_seqlens[sequence] - chunk->token;
        int64_t length = batch->cu_seqlens[sequence + 1] - batch->cu_seqlens[sequence];
        Range rows = {max_int64(range.begin - start, 0), min_int64(range.end - start, length)};
        for (int64_t number = 0; number < heads && rows.begin < rows.end; number++) {
            const int16_t *queries = chunk->qkv + start * 3 * width + number * head_dim;
            const float *scales = chunk->scales + start * 3 * heads + number;
            AttentionHead head = {
                .precision = precision_of_scores(layer),
                .queries = queries,
                .keys = queries + width,
                .values = queries + 2 * width,
                .stride = 3 * width,
                .query_scales = scales,
                .key_scales = scales + heads,
                .value_scales = scales + 2 * heads,
                .scale_stride = 3 * heads,
                .length = length,
                .head_dim = head_dim,
            };
            attend(head, rows, buffers->attention, chunk->context + start * width + number * head_dim, width);
        }
    }
}

/* All of a layer that comes after attention. */
INTERNAL void feed_forward(const Layer *layer, Chunk *chunk, Buffers *buffers, Range range)
{
    const Linear *output = &layer->output, *up = &layer->up, *down = &layer->down;
    int64_t width = output->out_features, inner = up->out_features;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = min_int64(range.end - begin, BLOCK);
        float *hidden = chunk->hidden + begin * width;
        for (int64_t row = 0; row < rows; row++)
            quantize_to(buffers, row, chunk->context + (begin + row) * width, output);
        multiply(output, buffers, rows);
        add_and_norm(hidden, output, buffers->sums, buffers->params, rows, layer->norm1);
        for (int64_t row = 0; row < rows; row++)
            quantize_to(buffers, row, hidden + row * width, up);
        multiply(up, buffers, rows);
        for (int64_t row = 0; row < rows; row++)
            buffers->params[row] = gelu_and_quantize(up, down, buffers->sums + row * inner, buffers->params[row],
                                                     buffers->row, buffers->words + row * words_of(down));
        multiply(down, buffers, rows);
        add_and_norm(hidden, down, buffers->sums, buffers->params, rows, layer->norm2);
    }
}

/* Vectors to the rows of the output that take them. */
INTERNAL void scatter_output(const Encoder *encoder, const Batch *batch, const Chunk *chunk, Range range)
{
    int64_t width = encoder->hidden_size;
    for (int64_t row = range.begin; row < range.end; row++) {
        int64_t output = batch->output_rows[chunk->token + row];
        if (output >= 0)
            memcpy(batch->out + output * width, chunk->hidden + row * width, (size_t)width * sizeof(float));
    }
}

#endif
