/* The stages of an encoder, each for some rows of a chunk of windows. The stream between blocks is float. */

enum { BLOCK = 48 }; /* rows that go through a product before what follows it */

typedef struct {
    const float *word;     /* (vocabulary, embedding) */
    const float *position; /* (positions, embedding), with what type 0 adds */
    Norm norm;
    int64_t embedding;
    Linear project; /* no weights where embeddings are as wide as the blocks */
    const Layer *layers;
    int64_t count;
    int64_t width;
    int64_t heads;
} Encoder;

/* Windows on an axis of slots; slots between them belong to none. */
typedef struct {
    const int64_t *ids;       /* (slots,) */
    const int64_t *positions; /* (slots,) */
    const int64_t *places;    /* (slots,) the row of `out` that takes a slot's vector, below 0 for none */
    const int64_t *starts;    /* (windows,) slots */
    const int64_t *lengths;   /* (windows,) at least 1 */
    int64_t windows;
    float *out; /* (rows, width) */
} Windows;

/* Rows of some windows, one window after another. */
typedef struct {
    int64_t first; /* window */
    int64_t end;
    int64_t *slots;  /* (rows,) */
    float *x;        /* (rows, width) the stream */
    int16_t *qkv;    /* (rows, 3 x width) queries, keys and values of all heads, in shorts */
    float *scales;   /* (rows, 3 x heads) what these are worth */
    float *mixed;    /* (rows, width) what attention gives */
} Chunk;

/* What a thread has for itself. */
typedef struct {
    float *sums;          /* (BLOCK, most outputs) of a product */
    int32_t *words;       /* (BLOCK, most inputs) what a product reads */
    Levels levels[BLOCK]; /* of these rows */
    float *row;           /* (most inputs,) */
    AttentionSpace attention;
} Space;

INLINE void lower(const float *x, const Linear *next, Space *space, int64_t row)
{
    space->levels[row] = lower_row(x, next, space->words + row * words_of(next), space->row);
}

INLINE __m512 product_at(const Linear *layer, const Space *space, int64_t row, int64_t at)
{
    return output_at(layer, space->sums + row * layer->outputs, space->levels[row], at);
}

/* x = norm(x + product) for one row. */
INLINE void add_and_norm(float *x, const Linear *layer, const Space *space, int64_t row, Norm norm)
{
    for (int64_t at = 0; at < layer->outputs; at += LANES)
        _mm512_storeu_ps(x + at, _mm512_add_ps(_mm512_loadu_ps(x + at), product_at(layer, space, row, at)));
    norm_row(x, layer->outputs, norm);
}

static void embed(const Encoder *encoder, const Windows *windows, Chunk *chunk, Space *space, Range range)
{
    int64_t width = encoder->embedding;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = range.end - begin < BLOCK ? range.end - begin : BLOCK;
        for (int64_t row = 0; row < rows; row++) {
            int64_t slot = chunk->slots[begin + row];
            const float *word = encoder->word + windows->ids[slot] * width;
            const float *position = encoder->position + windows->positions[slot] * width;
            float *sum = encoder->project.weights ? space->row : chunk->x + (begin + row) * encoder->width;
            for (int64_t at = 0; at < width; at += LANES)
                _mm512_storeu_ps(sum + at, _mm512_add_ps(_mm512_loadu_ps(word + at), _mm512_loadu_ps(position + at)));
            norm_row(sum, width, encoder->norm);
            if (encoder->project.weights)
                lower(sum, &encoder->project, space, row);
        }
        if (!encoder->project.weights)
            continue;
        multiply(&encoder->project, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t at = 0; at < encoder->width; at += LANES)
                _mm512_storeu_ps(chunk->x + (begin + row) * encoder->width + at,
                                 product_at(&encoder->project, space, row, at));
    }
}

/* Queries, keys and values, side by side. */
static void ask(const Encoder *encoder, const Layer *layer, Chunk *chunk, Space *space, Range range)
{
    const Linear *qkv = &layer->qkv;
    int64_t parts = 3 * encoder->heads, channels = encoder->width / encoder->heads;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = range.end - begin < BLOCK ? range.end - begin : BLOCK;
        for (int64_t row = 0; row < rows; row++)
            lower(chunk->x + (begin + row) * qkv->inputs, qkv, space, row);
        multiply(qkv, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t at = 0; at < qkv->outputs; at += LANES)
                _mm512_storeu_ps(space->row + at, product_at(qkv, space, row, at));
            for (int64_t part = 0; part < parts; part++)
                chunk->scales[(begin + row) * parts + part] = to_shorts(
                    space->row + part * channels, channels, chunk->qkv + (begin + row) * qkv->outputs + part * channels);
        }
    }
}

/* Attention of the rows of a range, each inside its own window. */
static void mix(const Encoder *encoder, const Windows *windows, Chunk *chunk, Space *space, Range range)
{
    int64_t width = encoder->width, channels = width / encoder->heads, start = 0;
    for (int64_t window = chunk->first; window < chunk->end; start += windows->lengths[window++]) {
        int64_t length = windows->lengths[window];
        int64_t begin = range.begin > start ? range.begin - start : 0;
        int64_t end = range.end - start < length ? range.end - start : length;
        for (int64_t head = 0; head < encoder->heads && begin < end; head++) {
            const int16_t *queries = chunk->qkv + start * 3 * width + head * channels;
            const float *scales = chunk->scales + start * 3 * encoder->heads + head;
            Head one = {queries, queries + width,          queries + 2 * width,          3 * width,
                        scales,  scales + encoder->heads, scales + 2 * encoder->heads, 3 * encoder->heads,
                        length,  channels};
            attend(one, begin, end, space->attention, chunk->mixed + start * width + head * channels, width);
        }
    }
}

/* All of a block that comes after attention. */
static void think(const Layer *layer, Chunk *chunk, Space *space, Range range)
{
    int64_t width = layer->output.outputs, inner = layer->up.outputs;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = range.end - begin < BLOCK ? range.end - begin : BLOCK;
        float *x = chunk->x + begin * width;
        for (int64_t row = 0; row < rows; row++)
            lower(chunk->mixed + (begin + row) * width, &layer->output, space, row);
        multiply(&layer->output, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++) {
            add_and_norm(x + row * width, &layer->output, space, row, layer->attention_norm);
            lower(x + row * width, &layer->up, space, row);
        }
        multiply(&layer->up, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t at = 0; at < inner; at += LANES)
                _mm512_storeu_ps(space->row + at, gelu(product_at(&layer->up, space, row, at)));
            lower(space->row, &layer->down, space, row);
        }
        multiply(&layer->down, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            add_and_norm(x + row * width, &layer->down, space, row, layer->norm);
    }
}

/* Vectors to the rows of `out` that take them. */
static void give(const Encoder *encoder, const Windows *windows, const Chunk *chunk, Range range)
{
    for (int64_t row = range.begin; row < range.end; row++) {
        int64_t place = windows->places[chunk->slots[row]];
        if (place >= 0)
            memcpy(windows->out + place * encoder->width, chunk->x + row * encoder->width,
                   (size_t)encoder->width * sizeof(float));
    }
}
