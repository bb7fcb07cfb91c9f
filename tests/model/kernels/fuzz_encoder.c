/* Predictions of random shapes, whose memory ends where it must, and shapes that are refused. */

#include "../../../spacy_electra/model/kernels/encoder.c"
#include "fuzz.h"

static Linear linear(int64_t inputs, int64_t outputs, Kind kind)
{
    int64_t size = inputs * outputs / (kind == BYTES ? 4 : 2);
    return (Linear){words(size), numbers(outputs), kind == BYTES ? numbers(outputs) : NULL, numbers(outputs), inputs, outputs, kind};
}

static Norm norm(int64_t width)
{
    return (Norm){numbers(width), numbers(width), 1e-12f};
}

static Encoder encoder_of(Layer *layers)
{
    int64_t width = ONE_OF(64, 128, 192), inner = ONE_OF(64, 128, 320), embedding = ONE_OF(16, 48, 64, width);
    int64_t heads = ONE_OF(1, 2, 4), vocabulary = 1 + below(20), positions = 80, count = 1 + below(2);
    for (int64_t number = 0; number < count; number++) {
        Kind first = ONE_OF(BYTES, SHORTS), second = ONE_OF(BYTES, SHORTS);
        layers[number] = (Layer){linear(width, 3 * width, first), linear(width, width, first), linear(width, inner, second),
                                 linear(inner, width, second), norm(width), norm(width)};
    }
    Encoder encoder = {numbers(vocabulary * embedding), numbers(positions * embedding), norm(embedding), embedding, {0},
                       layers, count, width, heads, vocabulary, positions};
    if (embedding != width)
        encoder.project = linear(embedding, width, SHORTS);
    return encoder;
}

static Windows windows_of(const Encoder *encoder)
{
    int64_t count = below(6), slots = 0, *lengths = integers(count, 75), *starts = integers(count, 1);
    for (int64_t window = 0; window < count; window++) {
        starts[window] = slots + below(3);
        slots = starts[window] + ++lengths[window];
    }
    Windows windows = {integers(slots, encoder->vocabulary), integers(slots, encoder->positions), integers(slots, slots + 1),
                       starts, lengths, count, slots, slots, numbers(slots * encoder->width)};
    for (int64_t slot = 0; slot < slots; slot++)
        ((int64_t *)windows.places)[slot] -= 1;
    return windows;
}

/* Change one number into one that cannot be, if `number` is not beyond the last that there is. */
static int break_one(Encoder *encoder, Windows *windows, Layer *layer)
{
    int64_t *of_shape[] = {&encoder->embedding, &encoder->count, &encoder->width, &encoder->heads, &encoder->project.outputs,
                           &layer->qkv.inputs, &layer->output.outputs, &layer->up.outputs, &layer->down.inputs, &layer->up.kind};
    const void **pointers[] = {(const void **)&encoder->word, (const void **)&encoder->position, (const void **)&encoder->norm.gain,
                               (const void **)&layer->norm.shift, (const void **)&layer->qkv.weights, (const void **)&layer->down.bias,
                               (const void **)&windows->ids, (const void **)&windows->starts, (const void **)&windows->lengths};
    int64_t *in_windows[] = {(int64_t *)windows->ids, (int64_t *)windows->positions, (int64_t *)windows->places, (int64_t *)windows->starts,
                             (int64_t *)windows->lengths};
    int64_t bad = ONE_OF(INT64_MIN, INT64_MAX, 1LL << 40, 1LL << 62), which;
    switch (below(5)) {
    case 0:
        which = below(10);
        if (which == 4 && !encoder->project.weights)
            return 0;
        *of_shape[which] = ONE_OF(-1, 0, 63, 65, INT64_MIN, INT64_MAX, 1LL << 40, 1LL << 62);
        return which != 1 && which != 3 && which != 9; /* 0 to 65 may be right numbers of these */
    case 1: *pointers[below(9)] = NULL; return windows->windows > 0;
    case 2:
        if (!windows->windows)
            return 0;
        which = below(5);
        in_windows[which][which < 3 ? windows->starts[0] : 0] = which == 2 ? INT64_MAX : bad;
        return 1;
    case 3: encoder->vocabulary = ONE_OF(-1, 0, INT64_MAX); return 1;
    default: windows->windows = ONE_OF(-1, INT64_MIN, INT64_MAX); return 1;
    }
}

void try_one(int64_t number)
{
    Layer layers[2];
    Encoder encoder = encoder_of(layers);
    Windows windows = windows_of(&encoder);
    if (number % 4 == 0) {
        expect(spacy_electra_encode(&encoder, &windows, ONE_OF(1, 2, 3, -1, 1000)) == DONE, "a valid shape is refused");
        return;
    }
    if (break_one(&encoder, &windows, &layers[0]))
        expect(spacy_electra_encode(&encoder, &windows, 2) == REFUSED, "an invalid shape is taken");
}
