/* Check what callers pass in, once a call, before memory is reserved by it. What passes is laid out in fewer than 2^62
   bytes, and is read and written within the sizes that the caller claims. */

#ifndef SPACY_ELECTRA_CHECKS_H
#define SPACY_ELECTRA_CHECKS_H

#include "abi.h"
#include "common.h"

enum { MAX_SIZE = 1 << 24 };          /* of a width, table or sequence, as in spacy-electra's encoder.py */
#define MAX_TOKENS ((int64_t)1 << 32) /* of a batch */

INTERNAL int is_size(int64_t number, int64_t multiple)
{
    return number > 0 && number <= MAX_SIZE && number % multiple == 0;
}

INTERNAL int is_linear(const Linear *linear, int64_t in_features, int64_t out_features)
{
    int is_whole = linear->weights && linear->scales && linear->bias;
    return is_whole && linear->in_features == in_features && linear->out_features == out_features
           && (linear->precision == INT16 || (linear->precision == INT8 && linear->weight_sums));
}

INTERNAL int is_norm(const LayerNorm *norm)
{
    return norm->gamma && norm->beta;
}

INTERNAL int is_layer(const Layer *layer, int64_t width, int64_t inner)
{
    return is_linear(&layer->qkv, width, 3 * width) && is_linear(&layer->output, width, width)
           && is_linear(&layer->up, width, inner) && is_linear(&layer->down, inner, width) && is_norm(&layer->norm1)
           && is_norm(&layer->norm2);
}

/* Embeddings that are rotated for int8 would need blocks of more registers than a row may have: int16 alone. */
INTERNAL int is_projection(const Encoder *encoder)
{
    const Linear *projection = &encoder->projection;
    if (!projection->weights)
        return encoder->embedding_size == encoder->hidden_size;
    return is_linear(projection, encoder->embedding_size, encoder->hidden_size) && projection->precision == INT16;
}

/* Widths that fill registers, and layers of one shape, by which buffers are laid out. */
INTERNAL int is_encoder(const Encoder *encoder)
{
    int64_t width = encoder->hidden_size, heads = encoder->num_heads;
    if (!encoder->word_embeddings || !encoder->position_embeddings || !encoder->layers
        || !is_norm(&encoder->embedding_norm) || !is_size(encoder->num_layers, 1)
        || !is_size(encoder->embedding_size, LANES) || !is_size(encoder->vocab_size, 1)
        || !is_size(encoder->max_positions, 1))
        return 0;
    int64_t inner = encoder->layers[0].up.out_features;
    if (!is_size(width, PANEL) || !is_size(inner, PANEL) || !is_size(heads, 1) || width % heads || width / heads % LANES
        || !is_projection(encoder))
        return 0;
    for (int64_t number = 0; number < encoder->num_layers; number++)
        if (!is_layer(&encoder->layers[number], width, inner))
            return 0;
    return 1;
}

/* Sequences of at least one token, which end where the tokens do. */
INTERNAL int are_sequences(const Batch *batch)
{
    const int64_t *bounds = batch->cu_seqlens;
    if (!bounds || batch->num_sequences > MAX_TOKENS || bounds[0] != 0)
        return 0;
    for (int64_t number = 0; number < batch->num_sequences; number++)
        if (bounds[number + 1] <= bounds[number] || !is_size(bounds[number + 1] - bounds[number], 1)
            || bounds[number + 1] > MAX_TOKENS)
            return 0;
    return bounds[batch->num_sequences] == batch->num_tokens;
}

/* Every token has vectors in the tables of the encoder, and a row of the output or none. */
INTERNAL int is_batch(const Batch *batch, const Encoder *encoder)
{
    if (batch->num_sequences <= 0)
        return batch->num_sequences == 0;
    if (!batch->input_ids || !batch->position_ids || !batch->output_rows || batch->num_outputs < 0
        || (batch->num_outputs && !batch->out) || !are_sequences(batch))
        return 0;
    for (int64_t token = 0; token < batch->num_tokens; token++) {
        int64_t id = batch->input_ids[token], position = batch->position_ids[token];
        if (id < 0 || id >= encoder->vocab_size || position < 0 || position >= encoder->max_positions
            || batch->output_rows[token] >= batch->num_outputs)
            return 0;
    }
    return 1;
}

#endif
