/* Linear layers of integer levels, for predictions: rows are rounded to bytes or to shorts of 16 bits before each.

   A row of shorts has as its measure the length (the root of the sum of squares) of the longest of its parts of 256
   numbers: LONGEST levels, so that by Cauchy and Schwarz no sum over a part, with weights of twice as many levels,
   overflows 32 bits. Sums are exact therefore, and a row errs by 1e-4 of its length, an eighth of what bfloat16 costs.
   A row of bytes is first turned by Hadamard matrices, and lies between its lowest and its highest number. */

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

enum { ROTATED = 16 }; /* registers */

static const float TINY = 1e-30f;     /* span of bytes */
static const float SHORTEST = 1e-15f; /* part of shorts: squares of what is less have lost their digits */
static const float HIGHEST_BYTE = 255.0f;
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

/* Sums and differences of `size` registers in the pattern of a Hadamard matrix. `size` is a constant where this is
   called, so that they stay in registers. */
INLINE Extremes rotate_block(int size, const float *x, float *out, Extremes extremes)
{
    __m512 part[ROTATED];
#pragma GCC unroll 16
    for (int i = 0; i < size; i++)
        part[i] = _mm512_loadu_ps(x + i * LANES);
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

/* Spread what stands out in a row over others: the weights that meet it were turned against it (`native.rotated`).
   A block is the largest power of two, up to ROTATED, that divides the number of the row's registers. */
INLINE Extremes rotate_row(const float *x, int64_t width, float *out)
{
    Extremes extremes = {_mm512_set1_ps(__builtin_inff()), _mm512_set1_ps(-__builtin_inff()), _mm512_setzero_ps()};
    int64_t registers = width / LANES, size = registers & -registers;
    for (int64_t at = 0; at < width; at += (size < ROTATED ? size : ROTATED) * LANES)
        switch (size) {
        case 4: extremes = rotate_block(4, x + at, out + at, extremes); break;
        case 8: extremes = rotate_block(8, x + at, out + at, extremes); break;
        default: extremes = rotate_block(ROTATED, x + at, out + at, extremes);
        }
    return extremes;
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

/* Numbers in bytes, turned. `turned`: room for them, which may be `x`. */
INLINE Levels to_bytes(const float *x, int64_t size, uint8_t *out, float *turned)
{
    Levels levels;
    Extremes extremes = rotate_row(x, size, turned);
    levels.lowest = _mm512_reduce_min_ps(extremes.lowest);
    float span = _mm512_reduce_max_ps(extremes.highest) - levels.lowest;
    levels.scale = __builtin_isfinite(_mm512_reduce_add_ps(extremes.sum)) ? span / HIGHEST_BYTE : __builtin_nanf("");
    __m512 begin = _mm512_set1_ps(levels.lowest), steps = _mm512_set1_ps(HIGHEST_BYTE / (span > TINY ? span : TINY));
    for (int64_t at = 0; at < size; at += LANES) {
        __m512 level = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(turned + at), begin), steps);
        _mm_storeu_si128((__m128i *)(out + at), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(level)));
    }
    return levels;
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
