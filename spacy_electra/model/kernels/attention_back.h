/* The backward pass of attention for one head of one window. Scores are computed again. */

/* Room for one window; `room` is its number of rows, rounded up to PAIRED. */
typedef struct {
    int32_t *keys;         /* (channels / 2, room) in panels */
    int32_t *values;       /* the same of the values */
    int32_t *key_rows;     /* (room / 2, channels) in panels */
    int32_t *query_rows;   /* the same of the queries */
    int32_t *given_rows;   /* the same of the gradient */
    float *scores;         /* (PAIRED, room) */
    float *slopes;         /* (PAIRED, room) */
    uint16_t *chances;     /* (PAIRED, room) */
    uint16_t *score_slopes;
    int32_t *turned_chances; /* (room, room / 2) words */
    int32_t *turned_slopes;
    float *sums; /* (ROWS, channels) */
} HeadSpace;

static HeadSpace lay_head(int64_t longest, int64_t channels, char **memory)
{
    int64_t room = round_up(longest, PAIRED);
    HeadSpace space;
    space.keys = take(memory, round_up(channels / 2, LANES) * room * 4);
    space.values = take(memory, round_up(channels / 2, LANES) * room * 4);
    space.key_rows = take(memory, channels * room * 2);
    space.query_rows = take(memory, channels * room * 2);
    space.given_rows = take(memory, channels * room * 2);
    space.scores = take(memory, PAIRED * room * 4);
    space.slopes = take(memory, PAIRED * room * 4);
    space.chances = take(memory, PAIRED * room * 2);
    space.score_slopes = take(memory, PAIRED * room * 2);
    space.turned_chances = take(memory, room * room * 2);
    space.turned_slopes = take(memory, room * room * 2);
    space.sums = take(memory, ROWS * channels * 4);
    return space;
}

/* A row of scores and of the gradients of its chances, both changed -> its chances as they met the values, and the
   gradients of the scores, which are still to be multiplied by 1 / sqrt(channels). */
INLINE void softmax_back(float *scores, float *slopes, const Head *head, int64_t row, float unit, uint16_t *chances,
                         uint16_t *score_slopes)
{
    int64_t columns = head->rows, use = HEADS + head->number;
    int64_t last = (columns - 1) / LANES * LANES;
    __mmask16 held = (__mmask16)(0xffffu >> (LANES - (columns - last)));
    _mm512_storeu_ps(scores + last, _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), held, scores + last));
    __m512 highest = _mm512_loadu_ps(scores), sum = _mm512_setzero_ps(), along = sum;
    for (int64_t at = LANES; at <= last; at += LANES)
        highest = _mm512_max_ps(highest, _mm512_loadu_ps(scores + at));
    __m512 begin = _mm512_set1_ps(_mm512_reduce_max_ps(highest)), units = _mm512_set1_ps(unit);
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 chance = power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + at), begin), units));
        __m512 slope = drop(_mm512_loadu_ps(slopes + at), head->dropout, row, use, at);
        _mm512_storeu_ps(scores + at, chance);
        _mm512_storeu_ps(slopes + at, slope);
        sum = _mm512_add_ps(sum, chance);
        along = _mm512_fmadd_ps(chance, slope, along);
    }
    __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
    __m512 mean = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_add_ps(along)), share);
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 chance = _mm512_mul_ps(_mm512_loadu_ps(scores + at), share);
        store_bf16(chances + at, drop(chance, head->dropout, row, use, at));
        store_bf16(score_slopes + at, _mm512_mul_ps(chance, _mm512_sub_ps(_mm512_loadu_ps(slopes + at), mean)));
    }
}

/* `rows` rows of sums, times `scale`, in bfloat16. */
INLINE void give_rows(const float *sums, int64_t rows, int64_t channels, float scale, uint16_t *out, int64_t stride)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < channels; at += LANES)
            store_bf16(out + row * stride + at,
                       _mm512_mul_ps(_mm512_loadu_ps(sums + row * channels + at), _mm512_set1_ps(scale)));
}

/* Gradients of all rows of one kind: products of turned rows (rows, steps), `room` / 2 words apart. */
static void turned_products(const int32_t *turned, int64_t room, const int32_t *weights, int64_t steps, Head head,
                            float scale, float *sums, uint16_t *out)
{
    for (int64_t row = 0; row < head.rows; row += ROWS) {
        int64_t rows = least(ROWS, head.rows - row);
        Rows x = {turned + row * (room / 2), room / 2};
        multiply_rows(multiply_bf16, x, rows, weights, head.channels, steps, (Sums){sums, head.channels});
        give_rows(sums, rows, head.channels, scale, out + row * head.stride, head.stride);
    }
}

/* given: gradient of what the head gave, rows `stride` numbers apart. out: where those of its queries go, in rows like
   the head's own; those of keys and values stand `apart` and twice as far behind. */
static void attend_back(Head head, const uint16_t *given, int64_t stride, HeadSpace space, uint16_t *out, int64_t apart)
{
    int64_t columns = round_up(head.rows, LANES), room = round_up(head.rows, PAIRED), words = head.channels / 2;
    float scale = 1.0f / __builtin_sqrtf((float)head.channels), unit = 1.4426950408889634f * scale;
    Strip queries = {head.queries, head.stride, head.rows, head.channels}, keys = queries, values = queries;
    Strip gradient = {given, stride, head.rows, head.channels};
    keys.numbers = head.keys;
    values.numbers = head.values;
    pack_keys(keys, space.keys);
    pack_keys(values, space.values);
    pack_values(keys, space.key_rows);
    pack_values(queries, space.query_rows);
    pack_values(gradient, space.given_rows);
    for (int64_t row = 0; row < head.rows; row += PAIRED) {
        int64_t rows = least(PAIRED, head.rows - row);
        Rows query = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        Rows slope = {(const int32_t *)(given + row * stride), stride / 2};
        multiply_rows(multiply_bf16, query, rows, space.keys, columns, words, (Sums){space.scores, columns});
        multiply_rows(multiply_bf16, slope, rows, space.values, columns, words, (Sums){space.slopes, columns});
        for (int64_t i = 0; i < rows; i++)
            softmax_back(space.scores + i * columns, space.slopes + i * columns, &head, row + i, unit,
                         space.chances + i * columns, space.score_slopes + i * columns);
        turn_rows(space.chances, columns, rows, columns, space.turned_chances + row / 2, room / 2);
        turn_rows(space.score_slopes, columns, rows, columns, space.turned_slopes + row / 2, room / 2);
        for (int64_t i = 0; i < rows; i += ROWS) {
            Rows x = {(const int32_t *)(space.score_slopes + i * columns), columns / 2};
            int64_t some = least(ROWS, rows - i);
            multiply_rows(multiply_bf16, x, some, space.key_rows, head.channels, columns / 2,
                          (Sums){space.sums, head.channels});
            give_rows(space.sums, some, head.channels, scale, out + (row + i) * head.stride, head.stride);
        }
    }
    turned_products(space.turned_slopes, room, space.query_rows, columns / 2, head, scale, space.sums, out + apart);
    turned_products(space.turned_chances, room, space.given_rows, columns / 2, head, 1.0f, space.sums, out + 2 * apart);
}
