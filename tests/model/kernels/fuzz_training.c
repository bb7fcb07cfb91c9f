/* A block's passes of random shapes, whose memory ends where it must, and shapes that are refused. */

#include "../../../spacy_electra/model/kernels/training.c"
#include "fuzz.h"

static Block block_of(int64_t width, int64_t inner)
{
    return (Block){numbers(3 * width * width), numbers(3 * width), numbers(width * width), numbers(width), numbers(width),
                   numbers(width), numbers(inner * width), numbers(inner), numbers(width * inner), numbers(width),
                   numbers(width), numbers(width)};
}

void try_one(int64_t number)
{
    int64_t width = ONE_OF(64, 128, 192), inner = ONE_OF(64, 128, 320), count = 1 + below(4), rows = 0;
    int64_t *lengths = integers(count, 70), threads = ONE_OF(1, 2, 3, -1, 1000);
    for (int64_t window = 0; window < count; window++)
        rows += ++lengths[window];
    Batch batch = {lengths, count, rows, width, inner, ONE_OF(1, 2, 4), {NULL, 0, 1.0f}, 1e-12f};
    if (below(2))
        batch.dropout = (Dropout){integers(rows, INT32_MAX), 400000000, 1.1f};
    Block block = block_of(width, inner), gradients = block_of(width, inner);
    float *x = numbers(rows * width), *out = numbers(rows * width), *given = numbers(rows * width);
    if (number % 4) {
        int64_t *places[] = {&batch.windows, &batch.rows, &batch.width, &batch.inner, &batch.heads, &lengths[0]};
        int64_t which = below(6), before = *places[which];
        *places[which] = ABSURD;
        if (*places[which] == before || (which == 4 && *places[which] == 1))
            return;
        if (!(which == 0 && *places[which] > count)) /* as many lengths as there are is what the caller must say */
            expect(spacy_electra_kept_bytes(&batch) == -1, "an invalid batch is counted");
        else
            return;
        expect(spacy_electra_forward(&block, &batch, x, out, (char *)x, threads) == REFUSED, "an invalid batch is taken");
        expect(spacy_electra_backward(&block, &batch, (char *)x, given, out, &gradients, threads) == REFUSED, "taken backward");
        return;
    }
    char *kept = keep(aligned_alloc(ALIGNMENT, (size_t)spacy_electra_kept_bytes(&batch)));
    expect(spacy_electra_forward(&block, &batch, x, out, kept, threads) == DONE, "a valid batch is refused");
    if (below(2))
        gradients.qkv = gradients.down = NULL;
    expect(spacy_electra_backward(&block, &batch, kept, given, out, &gradients, threads) == DONE, "refused backward");
    block.up_bias = NULL;
    expect(spacy_electra_forward(&block, &batch, x, out, kept, threads) == REFUSED, "a missing parameter is taken");
}
