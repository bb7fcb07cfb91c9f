/* Predictions of random shapes, whose memory ends where it must, and shapes that are refused. */

#include "../../kernels/src/encoder.c"
#include "fuzz.h"

static Linear linear(int64_t in_features, int64_t out_features, Precision precision)
{
    int64_t size = in_features * out_features / (precision == INT8 ? 4 : 2);
    return (Linear){
        .weights = words(size),
        .scales = numbers(out_features),
        .weight_sums = precision == INT8 ? numbers(out_features) : NULL,
        .bias = numbers(out_features),
        .in_features = in_features,
        .out_features = out_features,
        .precision = precision,
    };
}

static LayerNorm norm(int64_t width)
{
    return (LayerNorm){numbers(width), numbers(width), 1e-12f};
}

static Encoder encoder_of(Layer *layers)
{
    int64_t width = ONE_OF(64, 128, 192), inner = ONE_OF(64, 128, 320), embedding = ONE_OF(16, 48, 64, width);
    int64_t vocabulary = 1 + below(20), positions = 80;
    Encoder encoder = {
        .word_embeddings = numbers(vocabulary * embedding),
        .position_embeddings = numbers(positions * embedding),
        .embedding_norm = norm(embedding),
        .embedding_size = embedding,
        .layers = layers,
        .num_layers = 1 + below(2),
        .hidden_size = width,
        .num_heads = ONE_OF(1, 2, 4),
        .vocab_size = vocabulary,
        .max_positions = positions,
    };
    for (int64_t number = 0; number < encoder.num_layers; number++) {
        Precision first = ONE_OF(INT8, INT16), second = ONE_OF(INT8, INT16);
        layers[number] = (Layer){
            .qkv = linear(width, 3 * width, first),
            .output = linear(width, width, first),
            .up = linear(width, inner, second),
            .down = linear(inner, width, second),
            .norm1 = norm(width),
            .norm2 = norm(width),
        };
    }
    if (embedding != width)
        encoder.projection = linear(embedding, width, INT16);
    return encoder;
}

static Batch batch_of(const Encoder *encoder)
{
    int64_t count = below(6), *bounds = integers(count + 1, 1);
    for (int64_t sequence = 0; sequence < count; sequence++)
        bounds[sequence + 1] = bounds[sequence] + 1 + below(75);
    int64_t tokens = bounds[count], *output_rows = integers(tokens, tokens + 1);
    for (int64_t token = 0; token < tokens; token++)
        output_rows[token] -= 1;
    return (Batch){
        .input_ids = integers(tokens, encoder->vocab_size),
        .position_ids = integers(tokens, encoder->max_positions),
        .output_rows = output_rows,
        .cu_seqlens = bounds,
        .num_sequences = count,
        .num_tokens = tokens,
        .num_outputs = tokens,
        .out = numbers(tokens * encoder->hidden_size),
    };
}

/* Change one number into one that cannot be. Returns 0 where the change leaves what may be right. */
static int break_one(Encoder *encoder, Batch *batch, Layer *layer)
{
    int64_t *of_shape[] = {&encoder->embedding_size,    &encoder->hidden_size,   &encoder->projection.out_features,
                           &layer->qkv.in_features,     &layer->up.out_features, &layer->down.in_features,
                           &layer->output.out_features, &encoder->num_layers,    &encoder->num_heads,
                           &layer->up.precision};
    const void **pointers[] = {(const void **)&encoder->word_embeddings, (const void **)&encoder->embedding_norm.gamma,
                               (const void **)&layer->norm2.beta,        (const void **)&layer->qkv.weights,
                               (const void **)&layer->down.bias,         (const void **)&batch->input_ids,
                               (const void **)&batch->output_rows,       (const void **)&batch->cu_seqlens};
    int64_t *of_batch[] = {(int64_t *)batch->input_ids, (int64_t *)batch->position_ids, (int64_t *)batch->cu_seqlens};
    int64_t which;
    switch (below(7)) {
    case 0:
        which = below(10);
        if (which == 2 && !encoder->projection.weights)
            return 0;
        *of_shape[which] = ONE_OF(-1, 0, 63, 65, INT64_MIN, INT64_MAX, 1LL << 40, 1LL << 62);
        return which < 7; /* 0 to 65 may be right numbers of the others */
    case 1:
        which = below(8);
        *pointers[which] = NULL;
        return which < 5 || batch->num_sequences > 0;
    case 2:
        which = below(3);
        if (!batch->num_sequences)
            return 0;
        of_batch[which][0] = ONE_OF(-1, INT64_MIN, INT64_MAX, 1LL << 40, 1LL << 62);
        return 1;
    case 3:
        if (!batch->num_sequences)
            return 0;
        ((int64_t *)batch->cu_seqlens)[1 + below(batch->num_sequences)] =
            ONE_OF(-1, 0, INT64_MIN, INT64_MAX, 1LL << 40);
        return 1;
    case 4: encoder->vocab_size = ONE_OF(-1, 0, INT64_MAX); return 1;
    case 5: batch->num_tokens += ONE_OF(-1, 1, 1LL << 40); return batch->num_sequences > 0;
    default: batch->num_sequences = ONE_OF(-1, INT64_MIN, INT64_MAX); return 1;
    }
}

void try_one(int64_t number)
{
    Layer layers[2];
    Encoder encoder = encoder_of(layers);
    Batch batch = batch_of(&encoder);
    if (number % 4 == 0) {
        expect(spacy_electra_encode(&encoder, &batch, ONE_OF(1, 2, 3, -1, 1000)) == OK, "a valid shape is refused");
        return;
    }
    if (break_one(&encoder, &batch, &layers[0]))
        expect(spacy_electra_encode(&encoder, &batch, 2) == INVALID_ARGUMENT, "an invalid shape is taken");
}
