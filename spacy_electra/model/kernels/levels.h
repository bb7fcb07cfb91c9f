/* Linear layers of integer levels, for predictions: rows are rounded to bytes or to shorts of 16 bits before each.

   A row of shorts has as its measure the length (the root of the sum of squares) of the longest of its parts of 256
   numbers: LONGEST levels, so that by Cauchy and Schwarz no sum over a part, with weights of twice as many levels,
   overflows 32 bits. Sums are exact therefore, and a row errs by 1e-4 of its length, an eighth of what bfloat16 costs.
   A row of bytes is first turned by Hadamard matrices, and lies between its lowest and its highest number; queries and keys
   in bytes are not turned, and lie about 0. */

/* `scale` says what a level of each output's weights is worth, and `total` is the sum of these weights, which only bytes
   need. All pointers but `weights` are to `outputs` numbers. */
typedef struct {
    const int32_t *weights;
    const float *scale;
    const float *total;
    const float *bias;
    int64_t inputs;
    int64_t outputs;
    int64_t kind;
} Linear;

/* What the levels of a row mean: lowest + scale * level. */
typedef struct {
    float scale;
    float lowest;
} Levels;

enum { ROTATED = 16 };     /* registers */
enum { NO_NUMBER = 0x99 }; /* to fpclass: infinite or none */

static const float TINY = 1e-30f;     /* span of bytes */
static const float SHORTEST = 1e-15f; /* part of shorts: squares of what is less have lost their digits */
static const float HIGHEST_BYTE = 255.0f;
static const float HIGHEST_SIGNED = 127.0f;
static const float LONGEST = 32700.0f; /* part; with what rounding adds to it still less than 2^15 */

PRODUCT(multiply_bytes, BYTES)
PRODUCT(multiply_shorts, SHORTS)

/* (number of words) of a row of inputs of a layer. */
INLINE int64_t words_of(const Linear *layer)
{
    return layer->inputs / (layer->kind == BYTES ? 4 : 2);
}

/* Output `at` to `at` + 15 of a layer, bias included, from the sums of its products. */
INLINE __m512 output_at(const Linear *layer, const float *sums, Levels levels, int64_t at)
{
    __m512 rest = _mm512_loadu_ps(layer->bias + at);
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(layer->scale + at), _mm512_set1_ps(levels.scale));
    if (layer->kind == BYTES)
        rest = _mm512_fmadd_ps(_mm512_loadu_ps(layer->total + at), _mm512_set1_ps(levels.lowest), rest);
    return _mm512_fmadd_ps(_mm512_loadu_ps(sums + at), scale, rest);
}

typedef struct {
    __m512 lowest;
    __m512 highest;
    __m512 sum; /* of all numbers of a row, which is no number where one of them is none */
} Extremes;

INLINE Extremes no_extremes(void)
{
    return (Extremes){_mm512_set1_ps(__builtin_inff()), _mm512_set1_ps(-__builtin_inff()), _mm512_setzero_ps()};
}

/* Sums and differences of `size` registers in the pattern of a Hadamard matrix: this spreads what stands out in a row over
   others, and the weights that meet it were turned against it (`native.rotated`). `size` is a constant where this is
   called, so that they stay in registers. */
INLINE Extremes rotate(int size, __m512 part[ROTATED], float *out, Extremes extremes)
{
#pragma GCC unroll 4
    for (int apart = 1; apart < size; apart *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < size; i++)
            if (!(i & apart)) {
                __m512 one = part[i], other = part[i + apart];
                part[i] = _mm512_add_ps(one, other);
                part[i + apart] = _mm512_sub_ps(one, other);
            }
    extremes.sum = _mm512_add_ps(extremes.sum, part[0]);
#pragma GCC unroll 16
    for (int i = 0; i < size; i++) {
        extremes.lowest = _mm512_min_ps(extremes.lowest, part[i]);
        extremes.highest = _mm512_max_ps(extremes.highest, part[i]);
        _mm512_storeu_ps(out + i * LANES, part[i]);
    }
    return extremes;
}

/* Registers that are turned together: the largest power of two, up to ROTATED, that divides the number of a row's. */
INLINE int rotated_together(int64_t width)
{
    int64_t registers = width / LANES, size = registers & -registers;
    return (int)(size < ROTATED ? size : ROTATED);
}

INLINE void store_shorts(int16_t *out, __m512i levels)
{
    _mm256_storeu_si256((__m256i *)out, _mm512_cvtsepi32_epi16(levels));
}

/* Numbers in shorts; what one of these is worth, which is no number where one of the numbers is none or its square
   infinite. */
INLINE float to_shorts(const float *x, int64_t size, int16_t *out)
{
    float most = 0.0f;
    for (int64_t begin = 0; begin < size; begin += 2 * DEEP) {
        __m512 squares = _mm512_setzero_ps();
        for (int64_t at = begin; at < least(size, begin + 2 * DEEP); at += LANES)
            squares = _mm512_fmadd_ps(_mm512_loadu_ps(x + at), _mm512_loadu_ps(x + at), squares);
        float sum = _mm512_reduce_add_ps(squares);
        most = most != most || sum <= most ? most : sum; /* once no number, then for good */
    }
    float length = __builtin_sqrtf(most);
    length = length < SHORTEST ? SHORTEST : length;
    __m512 steps = _mm512_set1_ps(LONGEST / length);
    for (int64_t at = 0; at < size; at += LANES)
        store_shorts(out + at, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + at), steps)));
    return __builtin_isfinite(length) ? length / LONGEST : __builtin_nanf("");
}

/* Numbers in bytes, as far above `middle` or below it as they are above or below 0; what one of these is worth, which is
   no number where one of the numbers is infinite or none. */
INLINE float to_bytes_about(int middle, const float *x, int64_t size, uint8_t *out)
{
    __m512i highest = _mm512_setzero_si512(); /* bits of positive numbers are in their order, those of no number last */
    for (int64_t at = 0; at < size; at += LANES)
        highest = _mm512_max_epu32(highest, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + at))));
    union {
        uint32_t bits;
        float number;
    } most = {_mm512_reduce_max_epu32(highest)};
    __m512 steps = _mm512_set1_ps(HIGHEST_SIGNED / (most.number > TINY ? most.number : TINY));
    __m512i begin = _mm512_set1_epi32(middle);
    for (int64_t at = 0; at < size; at += LANES) {
        __m512i levels = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + at), steps));
        _mm_storeu_si128((__m128i *)(out + at), _mm512_cvtepi32_epi8(_mm512_add_epi32(levels, begin)));
    }
    return __builtin_isfinite(most.number) ? most.number / HIGHEST_SIGNED : __builtin_nanf("");
}

/* Numbers between extremes in bytes. */
INLINE Levels to_bytes_between(Extremes extremes, const float *x, int64_t size, uint8_t *out)
{
    Levels levels;
    levels.lowest = _mm512_reduce_min_ps(extremes.lowest);
    float span = _mm512_reduce_max_ps(extremes.highest) - levels.lowest;
    levels.scale = _mm512_fpclass_ps_mask(extremes.sum, NO_NUMBER) ? __builtin_nanf("") : span / HIGHEST_BYTE;
    __m512 begin = _mm512_set1_ps(levels.lowest), steps = _mm512_set1_ps(HIGHEST_BYTE / (span > TINY ? span : TINY));
    for (int64_t at = 0; at < size; at += LANES) {
        __m512 level = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at), begin), steps);
        _mm_storeu_si128((__m128i *)(out + at), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(level)));
    }
    return levels;
}

INLINE Extremes rotate_block(int size, const float *x, float *out, Extremes extremes)
{
    __m512 part[ROTATED];
#pragma GCC unroll 16
    for (int i = 0; i < size; i++)
        part[i] = _mm512_loadu_ps(x + i * LANES);
    return rotate(size, part, out, extremes);
}

/* Numbers in bytes, turned. `turned`: room for them, which may be `x`. */
INLINE Levels to_bytes(const float *x, int64_t size, uint8_t *out, float *turned)
{
    Extremes extremes = no_extremes();
    int together = rotated_together(size);
    for (int64_t at = 0; at < size; at += together * LANES)
        switch (together) {
        case 4: extremes = rotate_block(4, x + at, turned + at, extremes); break;
        case 8: extremes = rotate_block(8, x + at, turned + at, extremes); break;
        default: extremes = rotate_block(ROTATED, x + at, turned + at, extremes);
        }
    return to_bytes_between(extremes, turned, size, out);
}

/* A row as the next layer reads it. */
INLINE Levels lower_row(const float *x, const Linear *next, int32_t *words, float *turned)
{
    if (next->kind == BYTES)
        return to_bytes(x, next->inputs, (uint8_t *)words, turned);
    return (Levels){to_shorts(x, next->inputs, (int16_t *)words), 0.0f};
}

/* Sums (rows, outputs) of a layer's products with rows of words that stand one after another. */
INLINE void multiply(const Linear *layer, const int32_t *words, float *sums, int64_t rows)
{
    int64_t steps = words_of(layer);
    Rows x = {words, steps};
    Sums out = {sums, layer->outputs};
    if (layer->kind == BYTES)
        multiply_rows(multiply_bytes, x, rows, layer->weights, layer->outputs, steps, out);
    else
        multiply_rows(multiply_shorts, x, rows, layer->weights, layer->outputs, steps, out);
}
