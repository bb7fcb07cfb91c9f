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
    int64_t vocabulary;
    int64_t positions;
} Encoder;

/* Windows on an axis of slots; slots between them belong to none. */
typedef struct {
    const int64_t *ids;       /* (slots,) */
    const int64_t *positions; /* (slots,) */
    const int64_t *places;    /* (slots,) the row of `out` that takes a slot's vector, below 0 for none */
    const int64_t *starts;    /* (windows,) slots */
    const int64_t *lengths;   /* (windows,) at least 1 */
    int64_t windows;
    int64_t slots;
    int64_t rows;
    float *out; /* (rows, width) */
} Windows;

static int is_linear(const Linear *linear, int64_t inputs, int64_t outputs)
{
    int is_whole = linear->weights && linear->scale && linear->bias && (linear->total || linear->kind == SHORTS);
    return is_whole && linear->inputs == inputs && linear->outputs == outputs
           && (linear->kind == BYTES || linear->kind == SHORTS);
}

static int is_norm(const Norm *norm)
{
    return norm->gain && norm->shift;
}

/* All layers are of one shape, by which space is laid out. */
static int is_encoder(const Encoder *encoder)
{
    int64_t width = encoder->width, embedding = encoder->embedding;
    int is_whole = encoder->word && encoder->position && encoder->layers && is_norm(&encoder->norm);
    if (!is_whole || !is_size(encoder->count, 1) || !is_size(embedding, LANES))
        return 0;
    int64_t inner = encoder->layers[0].up.outputs;
    if (!is_block(width, inner, encoder->heads) || !is_size(encoder->vocabulary, 1) || !is_size(encoder->positions, 1))
        return 0;
    if (encoder->project.weights) { /* bytes would be turned in blocks of more registers than a row may have */
        if (!is_linear(&encoder->project, embedding, width) || encoder->project.kind != SHORTS)
            return 0;
    } else if (embedding != width)
        return 0;
    for (const Layer *layer = encoder->layers; layer < encoder->layers + encoder->count; layer++) {
        int is_layer = is_linear(&layer->qkv, width, 3 * width) && is_linear(&layer->output, width, width)
                       && is_linear(&layer->up, width, inner) && is_linear(&layer->down, inner, width);
        if (!is_layer || !is_norm(&layer->attention_norm) || !is_norm(&layer->norm))
            return 0;
    }
    return 1;
}

/* Every window lies within the slots, and what its slots name is there. */
static int are_windows(const Windows *windows, const Encoder *encoder)
{
    int64_t total = rows_of(windows->lengths, windows->windows);
    if (total <= 0)
        return total == 0;
    if (!windows->ids || !windows->positions || !windows->places || !windows->starts || windows->rows < 0
        || (windows->rows && !windows->out))
        return 0;
    for (int64_t window = 0; window < windows->windows; window++) {
        int64_t start = windows->starts[window], length = windows->lengths[window];
        if (start < 0 || length > windows->slots || start > windows->slots - length)
            return 0;
        for (int64_t slot = start; slot < start + length; slot++) {
            int64_t id = windows->ids[slot], position = windows->positions[slot];
            if (id < 0 || id >= encoder->vocabulary || position < 0 || position >= encoder->positions
                || windows->places[slot] >= windows->rows)
                return 0;
        }
    }
    return 1;
}

/* Rows of some windows, one window after another. */
typedef struct {
    int64_t first; /* window */
    int64_t end;
    int64_t *slots;  /* (rows,) */
    float *x;        /* (rows, width) the stream */
    int16_t *qkv;    /* (rows, 3 x width) queries, keys and values of all heads; bytes in the first half of a head's */
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

/* Of queries and keys: bytes where the product behind attention is of bytes, in the first block as well. */
INLINE Kind kind_of_scores(const Layer *layer)
{
    return layer->output.kind == BYTES ? BYTES : SHORTS;
}

INLINE void lower(const float *x, const Linear *next, Space *space, int64_t row)
{
    space->levels[row] = lower_row(x, next, space->words + row * words_of(next), space->row);
}

INLINE __m512 product_at(const Linear *layer, const Space *space, int64_t row, int64_t at)
{
    return output_at(layer, space->sums + row * layer->outputs, space->levels[row], at);
}

INLINE void add_and_norm_some(int count, float *x, const Linear *layer, const Space *space, int64_t row, Norm norm)
{
    __m512 sums[TOGETHER];
    for (int i = 0; i < count; i++)
        sums[i] = _mm512_setzero_ps();
    for (int64_t at = 0; at < layer->outputs; at += LANES)
        for (int i = 0; i < count; i++) {
            float *place = x + i * layer->outputs + at;
            __m512 sum = _mm512_add_ps(_mm512_loadu_ps(place), product_at(layer, space, row + i, at));
            _mm512_storeu_ps(place, sum);
            sums[i] = _mm512_add_ps(sums[i], sum);
        }
    norm_rows(count, x, layer->outputs, sums, norm);
}

/* x = norm(x + product) */
static void add_and_norm(float *x, const Linear *layer, const Space *space, int64_t rows, Norm norm)
{
    int64_t row = 0;
    for (; row + TOGETHER <= rows; row += TOGETHER)
        add_and_norm_some(TOGETHER, x + row * layer->outputs, layer, space, row, norm);
    for (; row < rows; row++)
        add_and_norm_some(1, x + row * layer->outputs, layer, space, row, norm);
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

/* Queries, keys or values of one head. */
typedef struct {
    Kind kind;
    int middle; /* where they are bytes, the level of 0 */
    int64_t row;
    int64_t at; /* the first of a layer's outputs */
} Part;

INLINE float lower_part(Part part, int64_t channels, const Linear *qkv, const Space *space, int16_t *levels)
{
    float *numbers = space->row + part.at;
    for (int64_t at = 0; at < channels; at += LANES)
        _mm512_storeu_ps(numbers + at, product_at(qkv, space, part.row, part.at + at));
    if (part.kind == BYTES)
        return to_bytes_about(part.middle, numbers, channels, (uint8_t *)levels);
    return to_shorts(numbers, channels, levels);
}

/* Queries, keys and values, side by side. */
static void ask(const Encoder *encoder, const Layer *layer, Chunk *chunk, Space *space, Range range)
{
    const Linear *qkv = &layer->qkv;
    int64_t heads = encoder->heads, parts = 3 * heads, channels = encoder->width / heads;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = range.end - begin < BLOCK ? range.end - begin : BLOCK;
        for (int64_t row = 0; row < rows; row++)
            lower(chunk->x + (begin + row) * qkv->inputs, qkv, space, row);
        multiply(qkv, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t part = 0; part < parts; part++) {
                Kind kind = part < 2 * heads ? kind_of_scores(layer) : SHORTS;
                Part one = {kind, part < heads ? MIDDLE : 0, row, part * channels};
                int16_t *levels = chunk->qkv + (begin + row) * qkv->outputs + one.at;
                float *scale = chunk->scales + (begin + row) * parts + part;
                *scale = channels == 64 ? lower_part(one, 64, qkv, space, levels) /* unrolled */
                                        : lower_part(one, channels, qkv, space, levels);
            }
    }
}

/* Attention of the rows of a range, each inside its own window. */
static void mix(const Encoder *encoder, const Layer *layer, const Windows *windows, Chunk *chunk, Space *space,
                Range range)
{
    int64_t width = encoder->width, channels = width / encoder->heads, start = 0;
    for (int64_t window = chunk->first; window < chunk->end; start += windows->lengths[window++]) {
        int64_t length = windows->lengths[window];
        int64_t begin = range.begin > start ? range.begin - start : 0;
        int64_t end = range.end - start < length ? range.end - start : length;
        for (int64_t head = 0; head < encoder->heads && begin < end; head++) {
            const int16_t *queries = chunk->qkv + start * 3 * width + head * channels;
            const float *scales = chunk->scales + start * 3 * encoder->heads + head;
            Head one = {kind_of_scores(layer),
                        queries, queries + width,          queries + 2 * width,          3 * width,
                        scales,  scales + encoder->heads, scales + 2 * encoder->heads, 3 * encoder->heads,
                        length,  channels};
            attend(one, (Range){begin, end}, space->attention, chunk->mixed + start * width + head * channels, width);
        }
    }
}

INLINE Extremes gelu_block(int size, const Linear *up, const Space *space, int64_t row, int64_t at, Extremes extremes)
{
    __m512 part[ROTATED];
#pragma GCC unroll 16
    for (int i = 0; i < size; i++)
        part[i] = gelu_for_bytes(product_at(up, space, row, at + i * LANES));
    return rotate(size, part, space->row + at, extremes);
}

/* GELU of one row, as the layer behind it reads it. */
INLINE void lower_gelu(const Layer *layer, Space *space, int64_t row)
{
    int64_t inner = layer->up.outputs;
    if (layer->down.kind == BYTES) {
        Extremes extremes = no_extremes();
        int together = rotated_together(inner);
        for (int64_t at = 0; at < inner; at += together * LANES)
            switch (together) {
            case 4: extremes = gelu_block(4, &layer->up, space, row, at, extremes); break;
            case 8: extremes = gelu_block(8, &layer->up, space, row, at, extremes); break;
            default: extremes = gelu_block(ROTATED, &layer->up, space, row, at, extremes);
            }
        uint8_t *bytes = (uint8_t *)(space->words + row * words_of(&layer->down));
        space->levels[row] = to_bytes_between(extremes, space->row, inner, bytes);
        return;
    }
    for (int64_t at = 0; at < inner; at += LANES)
        _mm512_storeu_ps(space->row + at, gelu(product_at(&layer->up, space, row, at)));
    lower(space->row, &layer->down, space, row);
}

/* All of a block that comes after attention. */
static void think(const Layer *layer, Chunk *chunk, Space *space, Range range)
{
    int64_t width = layer->output.outputs;
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
        int64_t rows = range.end - begin < BLOCK ? range.end - begin : BLOCK;
        float *x = chunk->x + begin * width;
        for (int64_t row = 0; row < rows; row++)
            lower(chunk->mixed + (begin + row) * width, &layer->output, space, row);
        multiply(&layer->output, space->words, space->sums, rows);
        add_and_norm(x, &layer->output, space, rows, layer->attention_norm);
        for (int64_t row = 0; row < rows; row++)
            lower(x + row * width, &layer->up, space, row);
        multiply(&layer->up, space->words, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            lower_gelu(layer, space, row);
        multiply(&layer->down, space->words, space->sums, rows);
        add_and_norm(x, &layer->down, space, rows, layer->norm);
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
