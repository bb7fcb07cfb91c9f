/* Attention of one head inside one window in predictions. Queries, keys, values and chances are shorts, each row of them
   with what its levels are worth; products are exact, the softmax is float. */

/* Queries, keys and values of one head; each is `stride` numbers from one row to the next. */
typedef struct {
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
    int32_t *keys;       /* (channels / 2, room) in panels */
    int32_t *values;     /* (room / 2, channels) in panels */
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

/* Sums of a query's products with all keys, changed, -> chances in shorts, each times the scale of its value; what one of
   these is worth after the division by the sum of chances: the number that brings them closest to what they were, so that
   nothing is lost where all are rounded alike. */
INLINE float softmax(float *scores, float query_scale, float longest, int64_t rows, AttentionSpace space,
                     int16_t *chances)
{
    int64_t last = (rows - 1) / LANES * LANES;
    __mmask16 held = (__mmask16)(0xffffu >> (LANES - (rows - last)));
    __m512 highest = _mm512_set1_ps(-__builtin_inff());
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 score = _mm512_mul_ps(_mm512_loadu_ps(scores + at), _mm512_loadu_ps(space.key_scales + at));
        _mm512_storeu_ps(scores + at, score);
        highest = _mm512_mask_max_ps(highest, at < last ? 0xffff : held, highest, score);
    }
    __m512 query = _mm512_set1_ps(query_scale), begin = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 chance = power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + at), begin), query));
        chance = _mm512_maskz_mov_ps(at < last ? 0xffff : held, chance);
        __m512 part = _mm512_mul_ps(chance, _mm512_loadu_ps(space.value_scales + at));
        _mm512_storeu_ps(scores + at, part);
        sum = _mm512_add_ps(sum, chance);
        squares = _mm512_fmadd_ps(part, part, squares);
    }
    float square = _mm512_reduce_add_ps(squares), length = __builtin_sqrtf(square);
    __m512 steps = _mm512_set1_ps(longest / (length < SHORTEST ? SHORTEST : length)), along = _mm512_setzero_ps();
    for (int64_t at = 0; at <= last; at += LANES) {
        __m512 part = _mm512_loadu_ps(scores + at);
        __m512i levels = _mm512_cvtps_epi32(_mm512_mul_ps(part, steps));
        along = _mm512_fmadd_ps(part, _mm512_cvtepi32_ps(levels), along);
        store_shorts(chances + at, levels);
    }
    if (!(square > SHORTEST * SHORTEST)) /* values are 0, or something is no number */
        return square <= SHORTEST * SHORTEST ? 0.0f : square;
    return square / (_mm512_reduce_add_ps(along) * _mm512_reduce_add_ps(sum));
}

/* softmax(q k' / sqrt(channels)) v for the queries of rows `begin` to `end` of a window, each `stride` numbers from the
   next in `out`. */
static void attend(Head head, int64_t begin, int64_t end, AttentionSpace space, float *out, int64_t stride)
{
    int64_t columns = round_up(head.rows, LANES);
    pack_keys((Strip){head.keys, head.stride, head.rows, head.channels}, space.keys);
    pack_values((Strip){head.values, head.stride, head.rows, head.channels}, space.values);
    gather_scales(&head, space);
    float longest = longest_chances(&head);
    for (int64_t row = begin; row < end; row += ROWS) {
        int rows = (int)(end - row < ROWS ? end - row : ROWS);
        Rows queries = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        multiply_rows(multiply_shorts, queries, rows, space.keys, columns, head.channels / 2,
                      (Sums){space.scores, columns});
        float worth[ROWS];
        for (int i = 0; i < rows; i++)
            worth[i] = softmax(space.scores + i * columns, head.query_scales[(row + i) * head.scale_stride], longest,
                               head.rows, space, (int16_t *)space.chances + i * columns);
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
