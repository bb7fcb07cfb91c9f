/* The forward pass of a block in training: what encoder.h computes, and what the backward pass needs of it. */

typedef struct {
    const Block *block;
    const Batch *batch;
    const float *x; /* (rows, width) */
    float *out;     /* (rows, width) */
    Kept kept;
    Layer layer;    /* of packed weights */
    int32_t *packed;
    int64_t longest;
    char *memory; /* of all members, `each` bytes a member */
    int64_t each;
} Forward;

typedef struct {
    float *sums;      /* (GROUP, most outputs) */
    uint16_t *words;  /* (GROUP, width or inner) */
    float *stream;    /* (GROUP, width) */
    AttentionSpace attention;
} ForwardSpace;

static AttentionSpace lay_attention(int64_t longest, int64_t channels, char **memory)
{
    int64_t room = round_up(longest, PAIRED);
    AttentionSpace space;
    space.keys = take(memory, round_up(channels / 2, LANES) * room * 4);
    space.values = take(memory, channels * room * 2);
    space.scores = take(memory, ROWS * room * 4);
    space.chances = take(memory, ROWS * room * 2);
    space.mixed = take(memory, ROWS * channels * 4);
    return space;
}

static ForwardSpace lay_forward(const Forward *pass, char **memory)
{
    const Batch *batch = pass->batch;
    ForwardSpace space;
    space.sums = take(memory, GROUP * most(3 * batch->width, batch->inner) * 4);
    space.words = take(memory, GROUP * most(batch->width, batch->inner) * 2);
    space.stream = take(memory, GROUP * batch->width * 4);
    space.attention = lay_attention(pass->longest, batch->width / batch->heads, memory);
    return space;
}

static void lay_layer(Forward *pass, char **memory)
{
    const Block *block = pass->block;
    int64_t width = pass->batch->width, inner = pass->batch->inner;
    Norm norm1 = {block->gain1, block->shift1, pass->batch->eps}, norm2 = {block->gain2, block->shift2, norm1.eps};
    pass->packed = take(memory, (4 * width * width + 2 * width * inner) * 2);
    const int32_t *output = pass->packed + 3 * width * width / 2, *up = output + width * width / 2;
    pass->layer = (Layer){
        {pass->packed, block->qkv_bias, width, 3 * width},
        {output, block->output_bias, width, width},
        {up, block->up_bias, width, inner},
        {up + width * inner / 2, block->down_bias, inner, width},
        norm1,
        norm2,
    };
}

/* Each member packs every so manieth panel. */
static void pack_weights(const Forward *pass, const Team *team, int64_t member)
{
    const Layer *layer = &pass->layer;
    const Linear *linears[] = {&layer->qkv, &layer->output, &layer->up, &layer->down};
    const float *weights[] = {pass->block->qkv, pass->block->output, pass->block->up, pass->block->down};
    for (int number = 0; number < 4; number++)
        for (int64_t panel = member * PANEL; panel < linears[number]->outputs; panel += team->size * PANEL)
            pack_panel(weights[number], linears[number]->inputs, panel, (int32_t *)linears[number]->weights);
}

/* A row of a batch, and what is dropped of the product that is added to it. */
typedef struct {
    Dropout dropout;
    int64_t row;
    int64_t use;
} Added;

/* x = x + product; its norm without gain goes to `hat` and with it to x, the factor of the norm to `inverse`. */
INLINE void norm_and_keep(float *x, const Linear *layer, const float *sums, Norm norm, Added added, uint16_t *hat,
                          float *inverse)
{
    int64_t width = layer->outputs;
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 product = drop(output_at(layer, sums, at), added.dropout, added.row, added.use, at);
        __m512 part = _mm512_add_ps(_mm512_loadu_ps(x + at), product);
        _mm512_storeu_ps(x + at, part);
        sum = _mm512_add_ps(sum, part);
    }
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(x + at), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    *inverse = 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / (float)width + norm.eps);
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 part = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at), mean), _mm512_set1_ps(*inverse));
        store_bf16(hat + at, part);
        part = _mm512_fmadd_ps(part, _mm512_loadu_ps(norm.gain + at), _mm512_loadu_ps(norm.shift + at));
        _mm512_storeu_ps(x + at, part);
    }
}

/* Outputs of a layer for some rows, in bfloat16. */
INLINE void keep_outputs(const Linear *layer, const float *sums, int64_t rows, uint16_t *out)
{
    for (int64_t row = 0; row < rows; row++, out += layer->outputs)
        for (int64_t at = 0; at < layer->outputs; at += LANES)
            store_bf16(out + at, output_at(layer, sums + row * layer->outputs, at));
}

static void ask_and_keep(const Forward *pass, const ForwardSpace *space, Range range)
{
    int64_t width = pass->batch->width;
    for (int64_t begin = range.begin; begin < range.end; begin += GROUP) {
        int64_t rows = least(GROUP, range.end - begin);
        row_to_bf16(pass->x + begin * width, rows * width, pass->kept.x + begin * width);
        multiply(&pass->layer.qkv, pass->kept.x + begin * width, space->sums, rows);
        keep_outputs(&pass->layer.qkv, space->sums, rows, pass->kept.qkv + begin * 3 * width);
    }
}

/* One head of the window of `length` rows that begins with row `start`. */
static Head head_of(const Batch *batch, const uint16_t *qkv, int64_t start, int64_t length, int64_t number)
{
    int64_t width = batch->width, channels = width / batch->heads;
    const uint16_t *queries = qkv + start * 3 * width + number * channels;
    Dropout dropout = batch->dropout;
    dropout.seeds = dropout.seeds ? dropout.seeds + start : NULL;
    return (Head){queries, queries + width, queries + 2 * width, 3 * width, length, channels, dropout, number};
}

/* Attention of rows, each inside its own window. */
static void mix_rows(const Batch *batch, const Kept *kept, AttentionSpace space, Range range)
{
    int64_t width = batch->width, channels = width / batch->heads, start = 0;
    for (int64_t window = 0; window < batch->windows; start += batch->lengths[window++]) {
        int64_t begin = most(range.begin - start, 0), end = least(range.end - start, batch->lengths[window]);
        for (int64_t head = 0; head < batch->heads && begin < end; head++) {
            attend(head_of(batch, kept->qkv, start, batch->lengths[window], head), begin, end, space, kept->mixed + start * width + head * channels, width);
        }
    }
}

static void think_and_keep(const Forward *pass, const ForwardSpace *space, Range range)
{
    const Layer *layer = &pass->layer;
    int64_t width = pass->batch->width, inner = pass->batch->inner;
    for (int64_t begin = range.begin; begin < range.end; begin += GROUP) {
        int64_t rows = least(GROUP, range.end - begin);
        uint16_t *hat1 = pass->kept.hat1 + begin * width, *hat2 = pass->kept.hat2 + begin * width;
        uint16_t *up = pass->kept.up + begin * inner;
        float *out = pass->out + begin * width;
        memcpy(space->stream, pass->x + begin * width, (size_t)(rows * width) * sizeof(float));
        multiply(&layer->output, pass->kept.mixed + begin * width, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            norm_and_keep(space->stream + row * width, &layer->output, space->sums + row * width,
                          layer->attention_norm, (Added){pass->batch->dropout, begin + row, MIXED}, hat1 + row * width,
                          pass->kept.inverse1 + begin + row);
        row_to_bf16(space->stream, rows * width, space->words);
        multiply(&layer->up, space->words, space->sums, rows);
        keep_outputs(&layer->up, space->sums, rows, up);
        for (int64_t at = 0; at < rows * inner; at += LANES)
            store_bf16(space->words + at, gelu(bf16_to_float(up + at)));
        multiply(&layer->down, space->words, space->sums, rows);
        memcpy(out, space->stream, (size_t)(rows * width) * sizeof(float));
        for (int64_t row = 0; row < rows; row++)
            norm_and_keep(out + row * width, &layer->down, space->sums + row * width, layer->norm,
                          (Added){pass->batch->dropout, begin + row, FED_FORWARD}, hat2 + row * width,
                          pass->kept.inverse2 + begin + row);
    }
}

static void run_forward(void *task, Team *team, int64_t member)
{
    const Forward *pass = task;
    char *memory = pass->memory + member * pass->each;
    ForwardSpace space = lay_forward(pass, &memory);
    Range range = share_of(pass->batch->rows, GROUP, team, member);
    pack_weights(pass, team, member);
    meet(team);
    ask_and_keep(pass, &space, range);
    meet(team);
    mix_rows(pass->batch, &pass->kept, space.attention, range);
    think_and_keep(pass, &space, range);
}
