/* An ELECTRA encoder for predictions on processors with AVX512-VNNI.

   A chunk of sequences goes through all layers before the next begins, so that its numbers stay in a core's cache.
   Threads take chunks one after another. Where chunks are fewer than threads, all threads share the rows of one, and
   wait for each other before and after attention. */

#include <stdlib.h>

#include "abi.h"
#include "checks.h"
#include "common.h"
#include "stages.h"
#include "threads.h"

enum { CHUNK = 384, SHARE = 32 }; /* least rows of a chunk, and of a thread that shares one */
enum { ALIGNMENT = 64 };          /* bytes */

/* A call: how its sequences are divided among chunks and threads. */
typedef struct {
    const Encoder *encoder;
    const Batch *batch;
    const int64_t *bounds; /* (chunks + 1,) first sequence of each chunk */
    int64_t chunks;
    int64_t next;       /* chunk that no thread has begun */
    int is_shared;      /* all threads share the one chunk */
    int64_t max_rows;   /* of a chunk */
    int64_t max_length; /* of a sequence */
    Chunk shared;
    char *memory; /* of all threads, `bytes` a thread */
    int64_t bytes;
} Call;

/* The next `bytes` of a piece of memory, or how many were asked for so far where it begins at 0. */
static void *reserve(char **memory, int64_t bytes)
{
    void *here = *memory;
    *memory += round_up(bytes, ALIGNMENT);
    return here;
}

static Chunk plan_chunk(const Call *call, char **memory)
{
    int64_t rows = call->max_rows, width = call->encoder->hidden_size;
    Chunk chunk = {0};
    chunk.hidden = reserve(memory, rows * width * (int64_t)sizeof(float));
    chunk.qkv = reserve(memory, rows * 3 * width * (int64_t)sizeof(int16_t));
    chunk.scales = reserve(memory, rows * 3 * call->encoder->num_heads * (int64_t)sizeof(float));
    chunk.context = reserve(memory, rows * width * (int64_t)sizeof(float));
    return chunk;
}

static void plan_buffers(const Call *call, char **memory, Buffers *buffers)
{
    const Encoder *encoder = call->encoder;
    int64_t inner = encoder->layers[0].up.out_features;
    int64_t wide = max_int64(max_int64(encoder->embedding_size, 3 * encoder->hidden_size), inner);
    int64_t room = round_up(call->max_length, LANES), head_dim = encoder->hidden_size / encoder->num_heads;
    buffers->sums = reserve(memory, BLOCK * wide * 4);
    buffers->words = reserve(memory, BLOCK * wide * 2);
    buffers->row = reserve(memory, wide * 4);
    buffers->attention.keys = reserve(memory, round_up(head_dim / 2, LANES) * room * 4);
    buffers->attention.values = reserve(memory, head_dim * room * 2);
    buffers->attention.key_offsets = reserve(memory, room * 4);
    buffers->attention.key_scales = reserve(memory, room * 4);
    buffers->attention.value_scales = reserve(memory, room * 4);
    buffers->attention.scores = reserve(memory, TILE_ROWS * room * 4);
    buffers->attention.probabilities = reserve(memory, TILE_ROWS * room * 2);
    buffers->attention.context = reserve(memory, TILE_ROWS * head_dim * 4);
}

static int64_t planned_bytes(const Call *call, int has_buffers, int has_chunk)
{
    char *end = NULL;
    Buffers buffers;
    if (has_buffers)
        plan_buffers(call, &end, &buffers);
    if (has_chunk)
        plan_chunk(call, &end);
    return (int64_t)(intptr_t)end;
}

static void run_chunk(Call *call, ThreadPool *pool, Chunk *chunk, Buffers *buffers, Range range)
{
    const Encoder *encoder = call->encoder;
    embed(encoder, call->batch, chunk, buffers, range);
    for (const Layer *layer = encoder->layers; layer < encoder->layers + encoder->num_layers; layer++) {
        qkv_projection(encoder, layer, chunk, buffers, range);
        if (call->is_shared)
            barrier_wait(pool);
        attention(encoder, layer, call->batch, chunk, buffers, range);
        if (call->is_shared)
            barrier_wait(pool);
        feed_forward(layer, chunk, buffers, range);
    }
    scatter_output(encoder, call->batch, chunk, range);
}

/* Returns its number of rows. */
static int64_t begin_chunk(const Call *call, int64_t number, Chunk *chunk)
{
    chunk->first = call->bounds[number];
    chunk->end = call->bounds[number + 1];
    chunk->token = call->batch->cu_seqlens[chunk->first];
    return call->batch->cu_seqlens[chunk->end] - chunk->token;
}

static void encode(void *task, ThreadPool *pool, int64_t thread)
{
    Call *call = task;
    Buffers buffers;
    char *memory = call->memory + thread * call->bytes;
    plan_buffers(call, &memory, &buffers);
    if (call->is_shared) {
        run_chunk(call, pool, &call->shared, &buffers, thread_range(call->max_rows, pool, thread));
        return;
    }
    Chunk chunk = plan_chunk(call, &memory);
    for (;;) {
        int64_t number = __atomic_fetch_add(&call->next, 1, __ATOMIC_RELAXED);
        if (number >= call->chunks)
            return;
        Range all = {0, begin_chunk(call, number, &chunk)};
        run_chunk(call, pool, &chunk, &buffers, all);
    }
}

/* Divide the sequences into chunks of at least CHUNK rows, or leave them together where that makes less than one a
   thread. Returns how many of `threads` are of use. */
static int64_t plan_chunks(Call *call, int64_t *bounds, int64_t threads)
{
    const Batch *batch = call->batch;
    int64_t total = batch->num_tokens, rows = 0;
    threads = max_int64(1, min_int64(min_int64(threads, MAX_THREADS), total / SHARE));
    call->is_shared = threads > 1 && total < threads * CHUNK;
    for (int64_t sequence = 0; sequence < batch->num_sequences; sequence++) {
        int64_t length = batch->cu_seqlens[sequence + 1] - batch->cu_seqlens[sequence];
        rows += length;
        call->max_length = max_int64(call->max_length, length);
        if (sequence + 1 < batch->num_sequences && (call->is_shared || rows < CHUNK))
            continue;
        bounds[++call->chunks] = sequence + 1;
        call->max_rows = max_int64(call->max_rows, rows);
        rows = 0;
    }
    if (call->chunks < threads && !call->is_shared) { /* long sequences made fewer chunks than there is room for */
        call->is_shared = 1;
        bounds[1] = batch->num_sequences;
        call->chunks = 1;
        call->max_rows = total;
    }
    return threads;
}

int spacy_electra_abi_version(void)
{
    return ABI_VERSION;
}

void spacy_electra_struct_sizes(int64_t sizes[NUM_STRUCTS])
{
    sizes[0] = sizeof(Linear);
    sizes[1] = sizeof(LayerNorm);
    sizes[2] = sizeof(Layer);
    sizes[3] = sizeof(Encoder);
    sizes[4] = sizeof(Batch);
}

int spacy_electra_encode(const Encoder *encoder, const Batch *batch, int64_t num_threads)
{
    Call call = {.encoder = encoder, .batch = batch};
    if (!is_encoder(encoder) || !is_batch(batch, encoder))
        return INVALID_ARGUMENT;
    if (!batch->num_sequences)
        return OK;
    int64_t *bounds = calloc((size_t)batch->num_sequences + 1, sizeof(int64_t));
    if (!bounds)
        return OUT_OF_MEMORY;
    num_threads = plan_chunks(&call, bounds, num_threads);
    call.bounds = bounds;
    call.bytes = planned_bytes(&call, 1, !call.is_shared);
    int64_t shared = planned_bytes(&call, 0, call.is_shared);
    char *memory = aligned_alloc(ALIGNMENT, (size_t)(call.bytes * num_threads + shared));
    if (memory) {
        char *rest = memory;
        if (call.is_shared) {
            call.shared = plan_chunk(&call, &rest);
            begin_chunk(&call, 0, &call.shared);
        }
        call.memory = rest;
        run_threads(encode, &call, num_threads);
        free(memory);
    }
    free(bounds);
    return memory ? OK : OUT_OF_MEMORY;
}
