/* What both passes of training know of a block, and weights and rows in the order that products read. */

/* Addresses of a block's parameters, or of their gradients, which are NULL where nobody wants one. */
typedef struct {
    float *qkv;         /* (3 x width, width) */
    float *qkv_bias;    /* (3 x width,) */
    float *output;      /* (width, width) */
    float *output_bias; /* (width,) */
    float *gain1;       /* (width,) of the norm after attention */
    float *shift1;
    float *up;          /* (inner, width) */
    float *up_bias;     /* (inner,) */
    float *down;        /* (width, inner) */
    float *down_bias;   /* (width,) */
    float *gain2;       /* (width,) of the norm after the feed-forward layers */
    float *shift2;
} Block;

/* Rows of a batch, one window after another. */
typedef struct {
    const int64_t *lengths; /* (windows,) */
    int64_t windows;
    int64_t rows;
    int64_t width;
    int64_t inner;
    int64_t heads;
    Dropout dropout;
    float eps;
} Batch;

static int is_batch(const Batch *batch)
{
    return is_block(batch->width, batch->inner, batch->heads) && batch->rows >= 0
           && rows_of(batch->lengths, batch->windows) == batch->rows;
}

/* Where `vectors_alone`, matrices may be missing. */
static int has_parameters(const Block *block, int vectors_alone)
{
    int has_vectors = block->qkv_bias && block->output_bias && block->up_bias && block->down_bias && block->gain1
                      && block->shift1 && block->gain2 && block->shift2;
    return has_vectors && (vectors_alone || (block->qkv && block->output && block->up && block->down));
}

/* What a forward pass keeps for the backward pass. */
typedef struct {
    uint16_t *x;     /* (rows, width) what the block read */
    uint16_t *qkv;   /* (rows, 3 x width) */
    uint16_t *mixed; /* (rows, width) what attention gave */
    uint16_t *hat1;  /* (rows, width) the norm after attention, before its gain */
    uint16_t *up;    /* (rows, inner) before GELU */
    uint16_t *hat2;  /* (rows, width) the last norm, before its gain */
    float *inverse1; /* (rows,) what the norms multiplied by */
    float *inverse2;
} Kept;

enum { GROUP = 96, PAIRED = 32 }; /* rows that go through a product; rows that are turned to columns at once */

static Kept lay_kept(const Batch *batch, char **memory)
{
    int64_t size = (int64_t)sizeof(uint16_t) * batch->rows;
    Kept kept;
    kept.x = take(memory, size * batch->width);
    kept.qkv = take(memory, size * 3 * batch->width);
    kept.mixed = take(memory, size * batch->width);
    kept.hat1 = take(memory, size * batch->width);
    kept.up = take(memory, size * batch->inner);
    kept.hat2 = take(memory, size * batch->width);
    kept.inverse1 = take(memory, batch->rows * (int64_t)sizeof(float));
    kept.inverse2 = take(memory, batch->rows * (int64_t)sizeof(float));
    return kept;
}

static int64_t longest_of(const Batch *batch)
{
    int64_t longest = 0;
    for (int64_t window = 0; window < batch->windows; window++)
        longest = most(longest, batch->lengths[window]);
    return longest;
}

/* 16 words of two rows each. */
INLINE __m512i pair(__m256i even, __m256i odd)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

/* A weight (outputs, inputs) as a product x W' reads it, for the outputs of one panel. */
static void pack_panel(const float *weight, int64_t inputs, int64_t panel, int32_t *packed)
{
    for (int64_t column = 0; column < PANEL; column += LANES)
        for (int64_t word = 0; word < inputs / 2; word += LANES) {
            __m512i block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                const float *row = weight + (panel + column + i) * inputs + 2 * word;
                __m256i first = to_bf16(_mm512_loadu_ps(row)), second = to_bf16(_mm512_loadu_ps(row + LANES));
                block[i] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
            }
            transpose(block, packed + panel * (inputs / 2) + word * PANEL + column, PANEL);
        }
}

/* The same weight as a product y W reads it, for the inputs of one panel. */
static void pack_turned_panel(const float *weight, int64_t outputs, int64_t inputs, int64_t panel, int32_t *packed)
{
    for (int64_t word = 0; word < outputs / 2; word++)
        for (int64_t column = 0; column < PANEL; column += LANES) {
            const float *row = weight + 2 * word * inputs + panel + column;
            _mm512_storeu_si512(packed + panel * (outputs / 2) + word * PANEL + column,
                                pair(to_bf16(_mm512_loadu_ps(row)), to_bf16(_mm512_loadu_ps(row + inputs))));
        }
}

/* Words of rows 2n and 2n + 1 of up to 32 rows, in 16 columns; rows behind the last are 0. */
INLINE void pair_rows(const uint16_t *rows, int64_t stride, int64_t count, __m512i pairs[LANES])
{
    const __m256i none = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        const uint16_t *row = rows + 2 * i * stride;
        __m256i even = 2 * i < count ? _mm256_loadu_si256((const __m256i *)row) : none;
        __m256i odd = 2 * i + 1 < count ? _mm256_loadu_si256((const __m256i *)(row + stride)) : none;
        pairs[i] = pair(even, odd);
    }
}

/* Up to GROUP rows as the left side of a product over rows: (columns, steps) words, from word `step` on. */
static void turn_rows(const uint16_t *rows, int64_t stride, int64_t count, int64_t columns, int32_t *out, int64_t steps)
{
    for (int64_t column = 0; column < columns; column += LANES)
        for (int64_t row = 0; row < count; row += PAIRED) {
            __m512i pairs[LANES];
            pair_rows(rows + row * stride + column, stride, count - row, pairs);
            transpose(pairs, out + column * steps + row / 2, steps);
        }
}

/* Up to GROUP rows as the right side of a product over rows: panels of (steps, 64) words. */
static void panel_rows(const uint16_t *rows, int64_t stride, int64_t count, int64_t columns, int32_t *out, int64_t steps)
{
    for (int64_t row = 0; row < count; row += PAIRED)
        for (int64_t column = 0; column < columns; column += LANES) {
            __m512i pairs[LANES];
            int64_t panel = column / PANEL * PANEL;
            int32_t *place = out + panel * steps + row / 2 * PANEL + column - panel;
            pair_rows(rows + row * stride + column, stride, count - row, pairs);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(place + i * PANEL, pairs[i]);
        }
}
