/* Attention of one head inside one window: queries, keys and values in bfloat16, sums and softmax in float. */

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

INLINE int64_t columns_in(int64_t panel_begin, int64_t columns)
{
    return columns - panel_begin < PANEL ? columns - panel_begin : PANEL;
}

/* 16 x 16 words from rows to columns: `out` are rows of `stride` words. */
INLINE void transpose(__m512i rows[LANES], int32_t *out, int64_t stride)
{
    __m512i pairs[LANES], fours[LANES], eights[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        eights[i] = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0x88);
        eights[i + 4] = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0xdd);
        eights[i + 8] = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0x88);
        eights[i + 12] = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(out + i * stride, _mm512_shuffle_i32x4(eights[i], eights[i + 8], 0x88));
        _mm512_storeu_si512(out + (i + 4) * stride, _mm512_shuffle_i32x4(eights[i + 4], eights[i + 12], 0x88));
        _mm512_storeu_si512(out + (i + 8) * stride, _mm512_shuffle_i32x4(eights[i], eights[i + 8], 0xdd));
        _mm512_storeu_si512(out + (i + 12) * stride, _mm512_shuffle_i32x4(eights[i + 4], eights[i + 12], 0xdd));
    }
}

/* Keys as weights: a word is two channels, a column a row of the window; columns behind the last are 0. */
static void pack_keys(Head head, int32_t *packed)
{
    int64_t words = head.channels / 2, columns = round_up(head.rows, LANES);
    for (int64_t row = 0; row < columns; row += LANES) {
        int64_t panel = row / PANEL * PANEL, wide = columns_in(panel, columns);
        for (int64_t word = 0; word < words; word += LANES) {
            __mmask16 held = words - word < LANES ? (__mmask16)((1u << (words - word)) - 1) : 0xffff;
            __m512i block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                __mmask16 mask = row + i < head.rows ? held : 0;
                block[i] = _mm512_maskz_loadu_epi32(mask, head.keys + (row + i) * head.stride + 2 * word);
            }
            transpose(block, packed + panel * words + word * wide + row - panel, wide);
        }
    }
}

/* Values as weights: a word is the same channel of two rows, a column a channel; rows behind the last are 0. */
static void pack_values(Head head, int32_t *packed)
{
    const __m256i none = _mm256_setzero_si256();
    int64_t steps = round_up(head.rows, LANES) / 2;
    for (int64_t channel = 0; channel < head.channels; channel += LANES) {
        int64_t panel = channel / PANEL * PANEL, wide = columns_in(panel, head.channels);
        int32_t *out = packed + panel * steps + channel - panel;
        for (int64_t step = 0; step < steps; step++, out += wide) {
            const uint16_t *row = head.values + 2 * step * head.stride + channel;
            __m256i even = 2 * step < head.rows ? _mm256_loadu_si256((const __m256i *)row) : none;
            __m256i odd = 2 * step + 1 < head.rows ? _mm256_loadu_si256((const __m256i *)(row + head.stride)) : none;
            __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
            _mm512_storeu_si512(out, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
        }
    }
}

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
    pack_keys(head, space.keys);
    pack_values(head, space.values);
    for (int64_t row = begin; row < end; row += ROWS) {
        int rows = (int)(end - row < ROWS ? end - row : ROWS);
        Rows queries = {(const int32_t *)(head.queries + row * head.stride), head.stride / 2};
        for (int64_t at = 0; at < columns; at += PANEL)
            multiply_bf16(rows, (int)columns_in(at, columns) / LANES, queries, space.keys + at * (head.channels / 2),
                          head.channels / 2, (Sums){space.scores + at, columns});
        float share[ROWS];
        for (int i = 0; i < rows; i++)
            share[i] = 1.0f / softmax(space.scores + i * columns, &head, row + i, unit,
                                      (uint16_t *)space.chances + i * columns);
        Rows chances = {space.chances, columns / 2};
        for (int64_t at = 0; at < head.channels; at += PANEL)
            multiply_bf16(rows, (int)columns_in(at, head.channels) / LANES, chances, space.values + at * (columns / 2),
                          columns / 2, (Sums){space.mixed + at, head.channels});
        for (int i = 0; i < rows; i++)
            for (int64_t at = 0; at < head.channels; at += LANES) {
                __m512 mixed = _mm512_loadu_ps(space.mixed + i * head.channels + at);
                store_bf16(out + (row + i) * stride + at, _mm512_mul_ps(mixed, _mm512_set1_ps(share[i])));
            }
    }
}
