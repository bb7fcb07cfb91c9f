/* Queries, keys or values of one head as weights of products. Words hold two 16-bit numbers of any kind, or four bytes of
   a strip that has half as many channels for it. */

/* One kind of these in one window; `stride` numbers from one row to the next. */
typedef struct {
    const void *numbers;
    int64_t stride;
    int64_t rows;
    int64_t channels;
} Strip;

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

/* Keys as weights: a word is two channels (four of bytes), a column a row of the window; columns behind the last are 0. */
static void pack_keys(Strip strip, int32_t *packed)
{
    int64_t words = strip.channels / 2, columns = round_up(strip.rows, LANES);
    for (int64_t row = 0; row < columns; row += LANES) {
        int64_t panel = row / PANEL * PANEL, wide = columns_in(panel, columns);
        for (int64_t word = 0; word < words; word += LANES) {
            __mmask16 held = words - word < LANES ? (__mmask16)((1u << (words - word)) - 1) : 0xffff;
            __m512i block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                __mmask16 mask = row + i < strip.rows ? held : 0;
                block[i] = _mm512_maskz_loadu_epi32(mask, (const uint16_t *)strip.numbers + (row + i) * strip.stride + 2 * word);
            }
            transpose(block, packed + panel * words + word * wide + row - panel, wide);
        }
    }
}

/* Values as weights: a word is the same channel of two rows, a column a channel; rows behind the last are 0. */
static void pack_values(Strip strip, int32_t *packed)
{
    const __m256i none = _mm256_setzero_si256();
    int64_t steps = round_up(strip.rows, LANES) / 2;
    for (int64_t channel = 0; channel < strip.channels; channel += LANES) {
        int64_t panel = channel / PANEL * PANEL, wide = columns_in(panel, strip.channels);
        int32_t *out = packed + panel * steps + channel - panel;
        for (int64_t step = 0; step < steps; step++, out += wide) {
            const uint16_t *row = (const uint16_t *)strip.numbers + 2 * step * strip.stride + channel;
            __m256i even = 2 * step < strip.rows ? _mm256_loadu_si256((const __m256i *)row) : none;
            __m256i odd = 2 * step + 1 < strip.rows ? _mm256_loadu_si256((const __m256i *)(row + strip.stride)) : none;
            __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
            _mm512_storeu_si512(out, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
        }
    }
}
