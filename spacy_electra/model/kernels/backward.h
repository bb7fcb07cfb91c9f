/* The backward pass of a block in training. Gradients of a batch's rows come in, those of what the block read go out,
   and sums over all rows for the parameters. What was cheap to compute is computed again. */

typedef struct {
    const Block *block;
    const Batch *batch;
    Kept kept;
    const float *given; /* (rows, width) gradient of what the block gave */
    float *read;        /* (rows, width) gradient of what it read */
    const Block *gradients;
    int64_t steps;  /* words of a column over the batch's rows */
    int64_t stride; /* from one such column to the next: columns a power of two apart would share few places of the cache */
    Linear to_qkv; /* turned weights: y W */
    Linear to_output;
    Linear to_up;
    Linear to_down;
    uint16_t *mixed; /* (rows, width) gradient of what attention gave */
    uint16_t *qkv;   /* (rows, 3 x width) */
    int32_t *left[4];  /* of the weights of `qkv`, `output`, `up`, `down`: gradients (outputs, stride) */
    int32_t *right[4]; /* inputs in panels of (steps, 64) */
    float *sums;       /* (members, vectors of `VectorSums`) */
    int64_t sums_each;
    int64_t longest;
    int64_t taken; /* panels of weights' gradients that some member has begun */
    char *memory;
    int64_t each;
} Backward;

/* Sums of one member over its rows, in the order of memory. */
typedef struct {
    float *qkv_bias;
    float *output_bias;
    float *gain1;
    float *shift1;
    float *up_bias;
    float *down_bias;
    float *gain2;
    float *shift2;
} VectorSums;

typedef struct {
    float *sums;      /* (GROUP, most outputs) */
    float *stream;    /* (GROUP, width) */
    uint16_t *inner;  /* (GROUP, inner) */
    uint16_t *hidden; /* (GROUP, inner) */
    uint16_t *wide;   /* (GROUP, width) */
    HeadSpace head;
} BackwardSpace;

static VectorSums lay_sums(float *sums, int64_t width)
{
    float *up_bias = sums + 9 * width;
    return (VectorSums){sums,    sums + 3 * width, sums + 4 * width, sums + 5 * width,
                        up_bias, sums + 6 * width, sums + 7 * width, sums + 8 * width};
}

INLINE void add_to(float *sum, __m512 part)
{
    _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), part));
}

/* Through a norm: `x` is the gradient of what it gave and becomes that of what it read. */
INLINE void norm_back(float *x, int64_t width, const uint16_t *hat, float inverse, const float *gain, float *gain_sum,
                      float *shift_sum)
{
    __m512 sum = _mm512_setzero_ps(), along = sum;
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 given = _mm512_loadu_ps(x + at), normed = bf16_to_float(hat + at);
        add_to(gain_sum + at, _mm512_mul_ps(given, normed));
        add_to(shift_sum + at, given);
        __m512 gained = _mm512_mul_ps(given, _mm512_loadu_ps(gain + at));
        sum = _mm512_add_ps(sum, gained);
        along = _mm512_fmadd_ps(gained, normed, along);
    }
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(along) / (float)width);
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 gained = _mm512_mul_ps(_mm512_loadu_ps(x + at), _mm512_loadu_ps(gain + at));
        __m512 rest = _mm512_fnmadd_ps(bf16_to_float(hat + at), slope, _mm512_sub_ps(gained, mean));
        _mm512_storeu_ps(x + at, _mm512_mul_ps(rest, _mm512_set1_ps(inverse)));
    }
}

/* d/dx of x Phi(x): Phi(x) + x phi(x). */
INLINE __m512 gelu_slope(__m512 x)
{
    const __m512 half_log2e = _mm512_set1_ps(-0.72134752f), density = _mm512_set1_ps(0.39894228f);
    __m512 square = _mm512_mul_ps(x, x);
    __m512 bell = _mm512_mul_ps(density, power_of_two(_mm512_mul_ps(square, half_log2e)));
    return _mm512_fmadd_ps(x, bell, gelu_share(x));
}

/* Through the feed-forward layers and both norms, up to what attention gave. */
static void think_back(const Backward *pass, const BackwardSpace *space, VectorSums sums, Range range)
{
    const Kept *kept = &pass->kept;
    int64_t width = pass->batch->width, inner = pass->batch->inner, steps = pass->steps;
    for (int64_t begin = range.begin; begin < range.end; begin += GROUP) {
        int64_t rows = least(GROUP, range.end - begin), word = begin / 2;
        const uint16_t *up = kept->up + begin * inner, *hat1 = kept->hat1 + begin * width;
        float *stream = space->stream;
        memcpy(stream, pass->given + begin * width, (size_t)(rows * width) * sizeof(float));
        for (int64_t row = 0; row < rows; row++) {
            norm_back(stream + row * width, width, kept->hat2 + (begin + row) * width, kept->inverse2[begin + row],
                      pass->block->gain2, sums.gain2, sums.shift2);
            for (int64_t at = 0; at < width; at += LANES) {
                __m512 part = _mm512_loadu_ps(stream + row * width + at);
                part = drop(part, pass->batch->dropout, begin + row, FED_FORWARD, at);
                add_to(sums.down_bias + at, part);
                store_bf16(space->wide + row * width + at, part);
            }
        }
        turn_rows(space->wide, width, rows, width, pass->left[3] + word, pass->stride);
        multiply(&pass->to_down, space->wide, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t at = 0; at < inner; at += LANES) {
                __m512 before = bf16_to_float(up + row * inner + at);
                __m512 part = _mm512_loadu_ps(space->sums + row * inner + at);
                part = _mm512_mul_ps(part, gelu_slope(before));
                add_to(sums.up_bias + at, part);
                store_bf16(space->inner + row * inner + at, part);
                store_bf16(space->hidden + row * inner + at, gelu(before));
            }
        turn_rows(space->inner, inner, rows, inner, pass->left[2] + word, pass->stride);
        panel_rows(space->hidden, inner, rows, inner, pass->right[3] + word * PANEL, steps);
        multiply(&pass->to_up, space->inner, space->sums, rows);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t at = 0; at < width; at += LANES) {
                __m512 gained = _mm512_mul_ps(bf16_to_float(hat1 + row * width + at),
                                              _mm512_loadu_ps(pass->block->gain1 + at));
                store_bf16(space->wide + row * width + at,
                           _mm512_add_ps(gained, _mm512_loadu_ps(pass->block->shift1 + at)));
            }
        panel_rows(space->wide, width, rows, width, pass->right[2] + word * PANEL, steps);
        for (int64_t row = 0; row < rows; row++) {
            float *part = stream + row * width, *out = pass->read + (begin + row) * width;
            for (int64_t at = 0; at < width; at += LANES)
                add_to(part + at, _mm512_loadu_ps(space->sums + row * width + at));
            norm_back(part, width, hat1 + row * width, kept->inverse1[begin + row], pass->block->gain1, sums.gain1,
                      sums.shift1);
            for (int64_t at = 0; at < width; at += LANES) {
                __m512 back = _mm512_loadu_ps(part + at);
                _mm512_storeu_ps(out + at, back);
                back = drop(back, pass->batch->dropout, begin + row, MIXED, at);
                add_to(sums.output_bias + at, back);
                store_bf16(space->wide + row * width + at, back);
            }
        }
        turn_rows(space->wide, width, rows, width, pass->left[1] + word, pass->stride);
        panel_rows(kept->mixed + begin * width, width, rows, width, pass->right[1] + word * PANEL, steps);
        multiply(&pass->to_output, space->wide, space->sums, rows);
        row_to_bf16(space->sums, rows * width, pass->mixed + begin * width);
    }
}

/* Through queries, keys and values to what the block read. */
static void ask_back(const Backward *pass, const BackwardSpace *space, VectorSums sums, Range range)
{
    int64_t width = pass->batch->width, wide = 3 * width;
    for (int64_t begin = range.begin; begin < range.end; begin += GROUP) {
        int64_t rows = least(GROUP, range.end - begin);
        const uint16_t *qkv = pass->qkv + begin * wide;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t at = 0; at < wide; at += LANES)
                add_to(sums.qkv_bias + at, bf16_to_float(qkv + row * wide + at));
        turn_rows(qkv, wide, rows, wide, pass->left[0] + begin / 2, pass->stride);
        panel_rows(pass->kept.x + begin * width, width, rows, width, pass->right[0] + begin / 2 * PANEL, pass->steps);
        multiply(&pass->to_qkv, qkv, space->sums, rows);
        for (int64_t at = 0; at < rows * width; at += LANES)
            add_to(pass->read + begin * width + at, _mm512_loadu_ps(space->sums + at));
    }
}

/* Heads of windows, each in turn for another member. */
static void mix_back(const Backward *pass, const BackwardSpace *space, const Team *team, int64_t member)
{
    const Batch *batch = pass->batch;
    int64_t width = batch->width, channels = width / batch->heads, start = 0, number = 0;
    for (int64_t window = 0; window < batch->windows; start += batch->lengths[window++])
        for (int64_t head = 0; head < batch->heads; head++) {
            if (number++ % team->size != member)
                continue;
            int64_t at = start * 3 * width + head * channels;
            Head one = head_of(batch, pass->kept.qkv, start, batch->lengths[window], head);
            attend_back(one, pass->mixed + start * width + head * channels, width, space->head, pass->qkv + at, width);
        }
}

/* Gradients of the four weights, a panel of inputs at a time. */
static void sum_weights(Backward *pass)
{
    int64_t width = pass->batch->width, inner = pass->batch->inner;
    float *out[] = {pass->gradients->qkv, pass->gradients->output, pass->gradients->up, pass->gradients->down};
    int64_t outputs[] = {3 * width, width, inner, width}, inputs[] = {width, width, width, inner};
    int64_t panels = (3 * width + inner) / PANEL;
    for (;;) {
        int64_t panel = __atomic_fetch_add(&pass->taken, 1, __ATOMIC_RELAXED) * PANEL;
        if (panel >= panels * PANEL)
            return;
        int number = 0;
        while (panel >= inputs[number])
            panel -= inputs[number++];
        for (int64_t row = 0; out[number] && row < outputs[number]; row += ROWS) {
            Rows x = {pass->left[number] + row * pass->stride, pass->stride};
            Sums sums = {out[number] + row * inputs[number] + panel, inputs[number]};
            multiply_bf16((int)least(ROWS, outputs[number] - row), VECTORS, x,
                          pass->right[number] + panel * pass->steps, pass->steps, sums);
        }
    }
}

/* Vectors of all members, added in their order. */
static void sum_vectors(const Backward *pass, int64_t members)
{
    const Block *all = pass->gradients;
    int64_t width = pass->batch->width, inner = pass->batch->inner;
    VectorSums first = lay_sums(pass->sums, width);
    float *from[] = {first.qkv_bias, first.output_bias, first.gain1,  first.shift1,
                     first.up_bias,  first.down_bias,   first.gain2, first.shift2};
    float *to[] = {all->qkv_bias, all->output_bias, all->gain1, all->shift1,
                   all->up_bias,  all->down_bias,   all->gain2, all->shift2};
    int64_t sizes[] = {3 * width, width, width, width, inner, width, width, width};
    for (int number = 0; number < 8; number++)
        for (int64_t at = 0; at < sizes[number]; at++) {
            float sum = 0.0f;
            for (int64_t member = 0; member < members; member++)
                sum += from[number][member * pass->sums_each + at];
            to[number][at] = sum;
        }
}
