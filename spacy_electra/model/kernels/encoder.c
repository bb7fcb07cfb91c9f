/* An ELECTRA encoder for predictions on processors with AVX512-VNNI.

   A chunk of windows goes through all blocks before the next begins, so that its numbers stay in a core's cache. Windows
   know nothing of each other: threads take chunks one after another. Where chunks are fewer than threads, all threads
   share the rows of one, and meet before and after attention. Called through ctypes by native.py, whose structures
   mirror those in rows.h and encoder.h. */

#include "products.h"
#include "threads.h"
#include "checks.h"
#include "rows.h"
#include "levels.h"
#include "layer.h"
#include "packing.h"
#include "attention_levels.h"
#include "encoder.h"

enum { CHUNK = 384, SHARE = 32 }; /* least rows of a chunk, and of a thread that shares one */

typedef struct {
    const Encoder *encoder;
    const Windows *windows;
    const int64_t *bounds; /* (chunks + 1,) first window of each chunk */
    int64_t chunks;
    int64_t taken;     /* chunks that some thread has begun */
    int is_shared;     /* all threads share the one chunk */
    int64_t most_rows; /* of a chunk */
    int64_t longest;   /* window */
    Chunk shared;
    char *memory;      /* of all threads, `each` bytes a thread */
    int64_t each;
} Job;

static Chunk lay_chunk(const Job *job, char **memory)
{
    int64_t rows = job->most_rows, width = job->encoder->width;
    Chunk chunk = {0};
    chunk.slots = take(memory, rows * (int64_t)sizeof(int64_t));
    chunk.x = take(memory, rows * width * (int64_t)sizeof(float));
    chunk.qkv = take(memory, rows * 3 * width * (int64_t)sizeof(int16_t));
    chunk.scales = take(memory, rows * 3 * job->encoder->heads * (int64_t)sizeof(float));
    chunk.mixed = take(memory, rows * width * (int64_t)sizeof(float));
    return chunk;
}

static void lay_space(const Job *job, char **memory, Space *space)
{
    const Encoder *encoder = job->encoder;
    int64_t wide = most(most(encoder->embedding, 3 * encoder->width), encoder->layers[0].up.outputs);
    int64_t room = round_up(job->longest, LANES), channels = encoder->width / encoder->heads;
    space->sums = take(memory, BLOCK * wide * 4);
    space->words = take(memory, BLOCK * wide * 2);
    space->row = take(memory, wide * 4);
    space->attention.keys = take(memory, round_up(channels / 2, LANES) * room * 4);
    space->attention.values = take(memory, channels * room * 2);
    space->attention.key_sums = take(memory, room * 4);
    space->attention.key_scales = take(memory, room * 4);
    space->attention.value_scales = take(memory, room * 4);
    space->attention.scores = take(memory, ROWS * room * 4);
    space->attention.chances = take(memory, ROWS * room * 2);
    space->attention.mixed = take(memory, ROWS * channels * 4);
}

static void run_chunk(Job *job, Team *team, Chunk *chunk, Space *space, Range range)
{
    const Encoder *encoder = job->encoder;
    embed(encoder, job->windows, chunk, space, range);
    for (const Layer *layer = encoder->layers; layer < encoder->layers + encoder->count; layer++) {
        ask(encoder, layer, chunk, space, range);
        if (job->is_shared)
            meet(team);
        mix(encoder, layer, job->windows, chunk, space, range);
        if (job->is_shared)
            meet(team);
        think(layer, chunk, space, range);
    }
    give(encoder, job->windows, chunk, range);
}

/* Its number of rows. */
static int64_t begin_chunk(const Job *job, int64_t number, Chunk *chunk)
{
    int64_t *slot = chunk->slots;
    chunk->first = job->bounds[number];
    chunk->end = job->bounds[number + 1];
    for (int64_t window = chunk->first; window < chunk->end; window++)
        for (int64_t place = 0; place < job->windows->lengths[window]; place++)
            *slot++ = job->windows->starts[window] + place;
    return slot - chunk->slots;
}

static void encode(void *task, Team *team, int64_t member)
{
    Job *job = task;
    Space space;
    char *memory = job->memory + member * job->each;
    lay_space(job, &memory, &space);
    if (job->is_shared) {
        run_chunk(job, team, &job->shared, &space, share_of(job->most_rows, 1, team, member));
        return;
    }
    Chunk chunk = lay_chunk(job, &memory);
    for (;;) {
        int64_t number = __atomic_fetch_add(&job->taken, 1, __ATOMIC_RELAXED);
        if (number >= job->chunks)
            return;
        Range all = {0, begin_chunk(job, number, &chunk)};
        run_chunk(job, team, &chunk, &space, all);
    }
}

/* Cut the windows into chunks of at least CHUNK rows, or leave them together where that makes less than one a thread.
   How many of `threads` are of use. */
static int64_t plan(Job *job, int64_t *bounds, int64_t threads)
{
    const Windows *windows = job->windows;
    int64_t total = 0, rows = 0;
    for (int64_t window = 0; window < windows->windows; window++)
        total += windows->lengths[window];
    threads = most(1, least(least(threads, MOST_THREADS), total / SHARE));
    job->is_shared = threads > 1 && total < threads * CHUNK;
    for (int64_t window = 0; window < windows->windows; window++) {
        rows += windows->lengths[window];
        job->longest = most(job->longest, windows->lengths[window]);
        if (window + 1 < windows->windows && (job->is_shared || rows < CHUNK))
            continue;
        bounds[++job->chunks] = window + 1;
        job->most_rows = most(job->most_rows, rows);
        rows = 0;
    }
    if (job->chunks < threads && !job->is_shared) { /* long windows made fewer chunks than there would be room for */
        job->is_shared = 1;
        bounds[1] = windows->windows;
        job->chunks = 1;
        job->most_rows = total;
    }
    return threads;
}

static int64_t bytes_for(const Job *job, int has_space, int has_chunk)
{
    char *end = NULL;
    Space space;
    if (has_space)
        lay_space(job, &end, &space);
    if (has_chunk)
        lay_chunk(job, &end);
    return (int64_t)(intptr_t)end;
}

int spacy_electra_interface(void)
{
    return INTERFACE;
}

/* Vectors of windows, on up to `threads` threads; what checks.h counts. */
int spacy_electra_encode(const Encoder *encoder, const Windows *windows, int64_t threads)
{
    Job job = {.encoder = encoder, .windows = windows};
    if (!is_encoder(encoder) || !are_windows(windows, encoder))
        return REFUSED;
    if (!windows->windows)
        return DONE;
    int64_t *bounds = calloc((size_t)windows->windows + 1, sizeof(int64_t));
    if (!bounds)
        return NO_MEMORY;
    threads = plan(&job, bounds, threads);
    job.bounds = bounds;
    job.each = bytes_for(&job, 1, !job.is_shared);
    int64_t shared = bytes_for(&job, 0, job.is_shared);
    char *memory = aligned_alloc(ALIGNMENT, (size_t)(job.each * threads + shared));
    if (memory) {
        char *rest = memory;
        if (job.is_shared) {
            job.shared = lay_chunk(&job, &rest);
            begin_chunk(&job, 0, &job.shared);
        }
        job.memory = rest;
        work_together(encode, &job, threads);
        free(memory);
    }
    free(bounds);
    return memory ? DONE : NO_MEMORY;
}
