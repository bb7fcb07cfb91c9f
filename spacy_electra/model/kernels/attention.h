/* Attention of one head inside one window in training: queries, keys and values in bfloat16, sums and softmax in float. */

/* Queries, keys and values of one head of one window; each is `stride` numbers from one row to the next. */
typedef struct {
    const uint16_t *queries;
    const uint16_t *keys;
    const uint16_t *values;
    int64_t stride;
    int64_t rows;
    int64_t channels;
    Dropout dropout; /* of chances; its seeds begin with those of the window's first row */
    int64_t number;  /* of the head */
} Head;

/* Room for one window of `room` rows, a multiple of 16. */
typedef struct {
    int32_t *keys;    /* (channels / 2, room) in panels */
    int32_t *values;  /* (room / 2, channels) in panels */
    float *scores;    /* (ROWS, room) */
    int32_t *chances; /* (ROWS, room / 2) */
    float *mixed;     /* (ROWS, channels) */
} AttentionSpace;

/* Scores of a row (columns, rounded up to 16), changed, -> bfloat16 chances before they are divided by the sum, which
   is returned. `unit`: log2(e) / sqrt(channels). */
INLINE float softmax(float *scores, const Head *head, int64_t row, float unit, uint16_t *chances)
{
    int64_t columns = head->rows;
    int64_t last = (columns - 1) / LANES * LANES;
    __mmask16 held = (__mmask16)(0xffffu >> (LANES - (columns - last)));
    _mm512_storeu_ps(scores + last, _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), held, scores + last));
    __m512 highest = _mm512_loadu_ps(scores), sum = _mm512_setzero_ps();
    for (int64_t at = LANES; at <= last; at += LANES)
        highest = _mm512_max_ps(highest, _mm512_loadu_ps(scores + at));
    __m512 begin = _mm512_set1_ps(_mm512_reduce_max_ps(highest)), units = _mm512_set1_ps(unit);
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 chance = power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + at), begin), units));
        sum = _mm512_add_ps(sum, chance);
        store_bf16(chances + at, drop(chance, head->dropout, row, HEADS + head->number, at));
    }
    return _mm512_reduce_add_ps(sum);
}

/* softmax(q k' / sqrt(channels)) v for the queries of rows `begin` to `end` of a window, each `stride` numbers from the
   next in `out`, which is bfloat16. */
static void attend(Head head, int64_t begin, int64_t end, AttentionSpace space, uint16_t *out, int64_t stride)
{
    int64_t columns = round_up(head.rows, LANES);
    float unit = 1.4426950408889634f / __builtin_sqrtf((float)head.channels);
    pack_keys((Strip){head.keys, head.stride, head.rows, head.channels}, space.keys);
    pack_values((Strip){head.values, head.stride, head.rows, head.channels}, space.values);
    for (int64_t row = begin; row < end; row += ROWS) {
        int rows = (int)(end - row < ROWS ? end - row : ROWS);
        Rows queries = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        multiply_rows(multiply_bf16, queries, rows, space.keys, columns, head.channels / 2, (Sums){space.scores, columns});
        float share[ROWS];
        for (int i = 0; i < rows; i++)
            share[i] = 1.0f / softmax(space.scores + i * columns, &head, row + i, unit,
                                      (uint16_t *)space.chances + i * columns);
        Rows chances = {space.chances, columns / 2};
        multiply_rows(multiply_bf16, chances, rows, space.values, head.channels, columns / 2,
                      (Sums){space.mixed, head.channels});
        for (int i = 0; i < rows; i++)
            for (int64_t at = 0; at < head.channels; at += LANES) {
                __m512 mixed = _mm512_loadu_ps(space.mixed + i * head.channels + at);
                store_bf16(out + (row + i) * stride + at, _mm512_mul_ps(mixed, _mm512_set1_ps(share[i])));
            }
    }
}
