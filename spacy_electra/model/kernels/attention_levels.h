/* Attention of one head inside one window in predictions. Values and chances are shorts, queries and keys shorts or bytes,
   each row of them with what its levels are worth; products are exact, the softmax is float. */

enum { MIDDLE = 128 }; /* of a query's bytes: the level of 0 */

/* Queries, keys and values of one head; each is `stride` shorts from one row to the next, bytes in the first half of
   their place. */
typedef struct {
    Kind kind; /* of queries and keys */
    const int16_t *queries;
    const int16_t *keys;
    const int16_t *values;
    int64_t stride;
    const float *query_scales; /* what a level of a row is worth, `scale_stride` from one row to the next */
    const float *key_scales;
    const float *value_scales;
    int64_t scale_stride;
    int64_t rows;
    int64_t channels;
} Head;

/* Room for one window of `room` rows, a multiple of 16. */
typedef struct {
    int32_t *keys;       /* (channels / 2, room) in panels; of bytes half as many rows */
    int32_t *values;     /* (room / 2, channels) in panels */
    float *key_sums;     /* (room,) MIDDLE times, where keys are bytes */
    float *key_scales;   /* (room,) scores in units of log2(e) / sqrt(channels) */
    float *value_scales; /* (room,) */
    float *scores;       /* (ROWS, room) */
    int32_t *chances;    /* (ROWS, room / 2) */
    float *mixed;        /* (ROWS, channels) */
} AttentionSpace;

static const float HIGHEST_SUM = 2.147e9f;

/* The scales of keys and values side by side; those of columns behind the last are 0. */
static void gather_scales(const Head *head, AttentionSpace space)
{
    float unit = 1.4426950408889634f / __builtin_sqrtf((float)head->channels);
    for (int64_t row = 0; row < round_up(head->rows, LANES); row++) {
        space.key_scales[row] = row < head->rows ? unit * head->key_scales[row * head->scale_stride] : 0.0f;
        space.value_scales[row] = row < head->rows ? head->value_scales[row * head->scale_stride] : 0.0f;
    }
}

/* How long a row of chances may be: so that none of them, and no sum with values of any channel, overflows, this by Cauchy
   and Schwarz. */
static float longest_chances(const Head *head)
{
    __m512 most = _mm512_set1_ps(1.0f);
    for (int64_t at = 0; at < head->channels; at += LANES) {
        __m512 squares = _mm512_setzero_ps();
        for (int64_t row = 0; row < head->rows; row++) {
            __m256i levels = _mm256_loadu_si256((const __m256i *)(head->values + row * head->stride + at));
            __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(levels));
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        most = _mm512_max_ps(most, squares);
    }
    float rounding = 0.5f * __builtin_sqrtf((float)head->rows);
    float by_sum = HIGHEST_SUM / __builtin_sqrtf(_mm512_reduce_max_ps(most)) - rounding;
    return by_sum < LONGEST ? by_sum : LONGEST;
}

/* Queries next to each other whose scores and chances lie from row `place` of the space on. */
typedef struct {
    int64_t first; /* row of the window */
    int64_t place;
    int64_t columns;
    float longest; /* their rows of chances may be */
} Queries;

/* Sums of `count` queries' products with all keys, changed, -> chances in shorts, each times the scale of its value, and
   in `worth` what one of these is worth after the division by the sum of chances: the number that brings them closest to
   what they were, so that nothing is lost where all are rounded alike. `count` and `kind` are constants where this is
   called: what follows from a row's sums waits for them, and other rows fill the time. */
INLINE void softmax(int count, Kind kind, const Head *head, Queries queries, AttentionSpace space, float *worth)
{
    int64_t last = (head->rows - 1) / LANES * LANES, columns = queries.columns;
    __mmask16 held = (__mmask16)(0xffffu >> (LANES - (head->rows - last)));
    float *scores = space.scores + queries.place * columns, square[ROWS];
    int16_t *chances = (int16_t *)space.chances + queries.place * columns;
    __m512 highest[ROWS], query[ROWS], begin[ROWS], sum[ROWS], squares[ROWS], steps[ROWS], along[ROWS];
    for (int i = 0; i < count; i++)
        highest[i] = _mm512_set1_ps(-__builtin_inff());
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 scale = _mm512_loadu_ps(space.key_scales + at);
        __mmask16 mask = at < last ? 0xffff : held;
        for (int i = 0; i < count; i++) {
            float *place = scores + i * columns + at;
            __m512 score = _mm512_loadu_ps(place);
            if (kind == BYTES)
                score = _mm512_sub_ps(score, _mm512_loadu_ps(space.key_sums + at));
            score = _mm512_mul_ps(score, scale);
            _mm512_storeu_ps(place, score);
            highest[i] = _mm512_mask_max_ps(highest[i], mask, highest[i], score);
        }
    }
    for (int i = 0; i < count; i++) {
        query[i] = _mm512_set1_ps(head->query_scales[(queries.first + i) * head->scale_stride]);
        begin[i] = _mm512_set1_ps(_mm512_reduce_max_ps(highest[i]));
        sum[i] = squares[i] = along[i] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 scale = _mm512_loadu_ps(space.value_scales + at);
        __mmask16 mask = at < last ? 0xffff : held;
        for (int i = 0; i < count; i++) {
            float *place = scores + i * columns + at;
            __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(place), begin[i]);
            __m512 chance = _mm512_maskz_mov_ps(mask, power_of_two(_mm512_mul_ps(apart, query[i])));
            __m512 part = _mm512_mul_ps(chance, scale);
            _mm512_storeu_ps(place, part);
            sum[i] = _mm512_add_ps(sum[i], chance);
            squares[i] = _mm512_fmadd_ps(part, part, squares[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        square[i] = _mm512_reduce_add_ps(squares[i]);
        float length = __builtin_sqrtf(square[i]);
        steps[i] = _mm512_set1_ps(queries.longest / (length < SHORTEST ? SHORTEST : length));
    }
    for (int64_t at = 0; at <= last; at += LANES)
        for (int i = 0; i < count; i++) {
            __m512 part = _mm512_loadu_ps(scores + i * columns + at);
            __m512i levels = _mm512_cvtps_epi32(_mm512_mul_ps(part, steps[i]));
            along[i] = _mm512_fmadd_ps(part, _mm512_cvtepi32_ps(levels), along[i]);
            store_shorts(chances + i * columns + at, levels);
        }
    for (int i = 0; i < count; i++) {
        if (square[i] > SHORTEST * SHORTEST)
            worth[i] = square[i] / (_mm512_reduce_add_ps(along[i]) * _mm512_reduce_add_ps(sum[i]));
        else /* values are 0, or something is no number */
            worth[i] = square[i] <= SHORTEST * SHORTEST ? 0.0f : square[i];
    }
}

/* What the level of a query's zeros adds to its sums with the keys. */
static void sum_keys(int64_t columns, int64_t steps, AttentionSpace space)
{
    const __m512i middle = _mm512_set1_epi8((char)MIDDLE);
    for (int64_t panel = 0; panel < columns; panel += PANEL) {
        int64_t wide = columns_in(panel, columns);
        for (int64_t column = 0; column < wide; column += LANES) {
            const int32_t *keys = space.keys + panel * steps + column;
            __m512i sum = _mm512_setzero_si512();
            for (int64_t step = 0; step < steps; step++)
                sum = _mm512_dpbusd_epi32(sum, middle, _mm512_loadu_si512(keys + step * wide));
            _mm512_storeu_ps(space.key_sums + panel + column, _mm512_cvtepi32_ps(sum));
        }
    }
}

INLINE void attend_by(Kind kind, Head head, Range range, AttentionSpace space, float *out, int64_t stride)
{
    int64_t columns = round_up(head.rows, LANES), steps = head.channels / (kind == BYTES ? 4 : 2);
    pack_keys((Strip){head.keys, head.stride, head.rows, 2 * steps}, space.keys);
    if (kind == BYTES)
        sum_keys(columns, steps, space);
    pack_values((Strip){head.values, head.stride, head.rows, head.channels}, space.values);
    gather_scales(&head, space);
    Queries queries = {range.begin, 0, columns, longest_chances(&head)};
    for (; queries.first < range.end; queries.first += ROWS) {
        int64_t row = queries.first;
        int rows = (int)(range.end - row < ROWS ? range.end - row : ROWS);
        Rows words = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        multiply_rows(kind == BYTES ? multiply_bytes : multiply_shorts, words, rows, space.keys, columns, steps,
                      (Sums){space.scores, columns});
        float worth[ROWS];
        if (rows == ROWS)
            softmax(ROWS, kind, &head, queries, space, worth);
        else
            for (int i = 0; i < rows; i++)
                softmax(1, kind, &head, (Queries){row + i, i, columns, queries.longest}, space, worth + i);
        Rows chances = {space.chances, columns / 2};
        multiply_rows(multiply_shorts, chances, rows, space.values, head.channels, columns / 2,
                      (Sums){space.mixed, head.channels});
        for (int i = 0; i < rows; i++)
            for (int64_t at = 0; at < head.channels; at += LANES) {
                __m512 mixed = _mm512_loadu_ps(space.mixed + i * head.channels + at);
                _mm512_storeu_ps(out + (row + i) * stride + at, _mm512_mul_ps(mixed, _mm512_set1_ps(worth[i])));
            }
    }
}

/* softmax(q k' / sqrt(channels)) v for the queries of some rows of a window, each `stride` numbers from the next in
   `out`. */
static void attend(Head head, Range range, AttentionSpace space, float *out, int64_t stride)
{
    if (head.kind == BYTES)
        attend_by(BYTES, head, range, space, out, stride);
    else
        attend_by(SHORTS, head, range, space, out, stride);
}
