/* A block of an ELECTRA encoder in training, forward and backward, on processors with AVX512-BF16: products of bfloat16,
   all else in float. Threads share the rows of a batch and meet between stages. Called through ctypes by native_blocks.py,
   whose structures mirror those in training.h. */

#include "products.h"
#include "threads.h"
#include "checks.h"
#include "rows.h"
#include "bf16.h"
#include "layer.h"
#include "dropout.h"
#include "packing.h"
#include "attention.h"
#include "training.h"
#include "attention_back.h"
#include "forward.h"
#include "backward.h"

static int64_t useful(const Batch *batch, int64_t threads)
{
    return most(1, least(least(threads, MOST_THREADS), batch->rows / GROUP));
}

int spacy_electra_interface(void)
{
    return INTERFACE;
}

/* What a forward pass keeps of a batch; -1 for one that no pass takes. */
int64_t spacy_electra_kept_bytes(const Batch *batch)
{
    char *end = NULL;
    if (!is_batch(batch))
        return -1;
    lay_kept(batch, &end);
    return (int64_t)(intptr_t)end;
}

/* Answers what checks.h counts. kept: room for as many bytes as the function above says. */
int spacy_electra_forward(const Block *block, const Batch *batch, const float *x, float *out, char *kept,
                          int64_t threads)
{
    if (!is_batch(batch) || !has_parameters(block, 0) || !x || !out || !kept)
        return REFUSED;
    Forward pass = {.block = block, .batch = batch, .x = x, .out = out, .longest = longest_of(batch)};
    pass.kept = lay_kept(batch, &kept);
    char *shared = NULL, *own = NULL;
    lay_layer(&pass, &shared);
    lay_forward(&pass, &own);
    pass.each = (int64_t)(intptr_t)own;
    threads = useful(batch, threads);
    char *memory = aligned_alloc(ALIGNMENT, (size_t)((int64_t)(intptr_t)shared + threads * pass.each));
    if (!memory)
        return NO_MEMORY;
    pass.memory = memory;
    lay_layer(&pass, &pass.memory);
    work_together(run_forward, &pass, threads);
    free(memory);
    return DONE;
}

static void lay_backward(Backward *pass, char **memory, int64_t threads)
{
    int64_t width = pass->batch->width, inner = pass->batch->inner, rows = pass->batch->rows;
    int64_t outputs[] = {3 * width, width, inner, width}, inputs[] = {width, width, width, inner};
    Linear *turned[] = {&pass->to_qkv, &pass->to_output, &pass->to_up, &pass->to_down};
    pass->steps = round_up(rows, PAIRED) / 2;
    pass->stride = pass->steps | LANES;
    for (int number = 0; number < 4; number++) {
        const int32_t *weights = take(memory, outputs[number] * inputs[number] * 2);
        *turned[number] = (Linear){weights, NULL, outputs[number], inputs[number]};
        pass->left[number] = take(memory, outputs[number] * pass->stride * 4);
        pass->right[number] = take(memory, inputs[number] * pass->steps * 4);
    }
    pass->mixed = take(memory, rows * width * 2);
    pass->qkv = take(memory, rows * 3 * width * 2);
    pass->sums_each = 9 * width + inner;
    pass->sums = take(memory, threads * pass->sums_each * 4);
}

static BackwardSpace lay_back_space(const Backward *pass, char **memory)
{
    int64_t width = pass->batch->width, inner = pass->batch->inner;
    BackwardSpace space;
    space.sums = take(memory, GROUP * most(width, inner) * 4);
    space.stream = take(memory, GROUP * width * 4);
    space.inner = take(memory, GROUP * inner * 2);
    space.hidden = take(memory, GROUP * inner * 2);
    space.wide = take(memory, GROUP * width * 2);
    space.head = lay_head(pass->longest, width / pass->batch->heads, memory);
    return space;
}

/* Each member turns every so manieth panel. */
static void turn_weights(const Backward *pass, const Team *team, int64_t member)
{
    const Linear *linears[] = {&pass->to_qkv, &pass->to_output, &pass->to_up, &pass->to_down};
    const float *weights[] = {pass->block->qkv, pass->block->output, pass->block->up, pass->block->down};
    for (int number = 0; number < 4; number++)
        for (int64_t panel = member * PANEL; panel < linears[number]->outputs; panel += team->size * PANEL)
            pack_turned_panel(weights[number], linears[number]->inputs, linears[number]->outputs, panel,
                              (int32_t *)linears[number]->weights);
}

static void run_backward(void *task, Team *team, int64_t member)
{
    Backward *pass = task;
    char *memory = pass->memory + member * pass->each;
    BackwardSpace space = lay_back_space(pass, &memory);
    float *own = pass->sums + member * pass->sums_each;
    memset(own, 0, (size_t)pass->sums_each * sizeof(float));
    VectorSums sums = lay_sums(own, pass->batch->width);
    Range range = share_of(pass->batch->rows, GROUP, team, member);
    turn_weights(pass, team, member);
    meet(team);
    think_back(pass, &space, sums, range);
    meet(team);
    mix_back(pass, &space, team, member);
    meet(team);
    ask_back(pass, &space, sums, range);
    meet(team);
    sum_weights(pass);
    if (member == 0)
        sum_vectors(pass, team->size);
}

/* Answers what checks.h counts. given, read: gradients (rows, width) of what the block gave and of what it read. */
int spacy_electra_backward(const Block *block, const Batch *batch, char *kept, const float *given, float *read,
                           const Block *gradients, int64_t threads)
{
    if (!is_batch(batch) || !has_parameters(block, 0) || !has_parameters(gradients, 1) || !kept || !given || !read)
        return REFUSED;
    Backward pass = {.block = block, .batch = batch, .given = given, .read = read, .gradients = gradients};
    pass.kept = lay_kept(batch, &kept);
    pass.longest = longest_of(batch);
    threads = useful(batch, threads);
    char *shared = NULL, *own = NULL;
    lay_backward(&pass, &shared, threads);
    lay_back_space(&pass, &own);
    pass.each = (int64_t)(intptr_t)own;
    char *memory = aligned_alloc(ALIGNMENT, (size_t)((int64_t)(intptr_t)shared + threads * pass.each));
    if (!memory)
        return NO_MEMORY;
    pass.memory = memory;
    lay_backward(&pass, &pass.memory, threads);
    work_together(run_backward, &pass, threads);
    free(memory);
    return DONE;
}
