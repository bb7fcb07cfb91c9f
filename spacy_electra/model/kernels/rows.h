/* Linear layers, and what happens to one row of numbers between two of them: biases, GELU, norms, rounding. */

/* A linear layer. Of bytes, weights are levels; then `scale` says what a level of each output is worth, and `total` is
   the sum of each output's weights. All pointers but `weights` are to `outputs` numbers. */
typedef struct {
    const int32_t *weights;
    const float *scale;
    const float *total;
    const float *bias;
    int64_t inputs;
    int64_t outputs;
    int64_t is_bytes;
} Linear;

/* What the levels of a row mean: lowest + scale * level. */
typedef struct {
    float scale;
    float lowest;
} Levels;

typedef struct {
    const float *gain;
    const float *shift;
    float eps;
} Norm;

/* A block. */
typedef struct {
    Linear qkv;
    Linear output;
    Linear up;
    Linear down;
    Norm attention_norm;
    Norm norm;
} Layer;

enum { ROTATED = 16 }; /* registers */

static const float TINY = 1e-30f;
static const float HIGHEST_LEVEL = 255.0f;

/* (number of words) of a row of inputs of a layer. */
INLINE int64_t words_of(const Linear *layer)
{
    return layer->inputs / (layer->is_bytes ? 4 : 2);
}

INLINE __m512 bf16_to_float(const uint16_t *x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x)), 16));
}

INLINE void store_bf16(uint16_t *out, __m512 x)
{
    _mm256_storeu_si256((__m256i *)out, to_bf16(x));
}

/* Output `at` to `at` + 15 of a layer, bias included, from the sums of its products. */
INLINE __m512 output_at(const Linear *layer, const void *sums, Levels levels, int64_t at)
{
    __m512 bias = _mm512_loadu_ps(layer->bias + at);
    if (!layer->is_bytes)
        return _mm512_add_ps(_mm512_loadu_ps((const float *)sums + at), bias);
    __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512((const int32_t *)sums + at));
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(layer->scale + at), _mm512_set1_ps(levels.scale));
    __m512 rest = _mm512_fmadd_ps(_mm512_loadu_ps(layer->total + at), _mm512_set1_ps(levels.lowest), bias);
    return _mm512_fmadd_ps(sum, scale, rest);
}

/* Phi(x), as far as GELU needs it: a polynomial up to 4.2, fitted there by the largest error of x Phi(x), which is 8e-5,
   and the same as at its ends beyond. */
INLINE __m512 gelu_share(__m512 x)
{
    static const float powers[] = {-9.019540669896742e-10f, 7.942711732766838e-08f, -3.0383100693143206e-06f,
                                   6.689608562737703e-05f, -0.0009506995556876063f, 0.009298404678702354f,
                                   -0.06552854925394058f, 0.3984661102294922f};
    const __m512 end = _mm512_set1_ps(4.2f);
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, end), _mm512_sub_ps(_mm512_setzero_ps(), end));
    __m512 square = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(powers[0]);
    for (int i = 1; i < 8; i++)
        p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(powers[i]));
    return _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5f));
}

/* x Phi(x) */
INLINE __m512 gelu(__m512 x)
{
    return _mm512_mul_ps(x, gelu_share(x));
}

/* 2 to the power of x, to 4e-6 of its value; 0 for what is far below. */
INLINE __m512 power_of_two(__m512 x)
{
    static const float powers[] = {0.009570040740072727f, 0.05591772496700287f, 0.240247443318367f,
                                   0.6931218504905701f, 0.9999992847442627f};
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(powers[0]);
    for (int i = 1; i < 5; i++)
        p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(powers[i]));
    return _mm512_scalef_ps(p, whole);
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

/* A row as the next layer reads it: in bfloat16, or turned and in bytes between its lowest and its highest number.
   `turned`: room for the row, which may be `x`. */
INLINE Levels lower_row(const float *x, const Linear *next, int32_t *words, float *turned)
{
    Levels levels = {1.0f, 0.0f};
    if (!next->is_bytes) {
        for (int64_t at = 0; at < next->inputs; at += LANES)
            store_bf16((uint16_t *)words + at, _mm512_loadu_ps(x + at));
        return levels;
    }
    Extremes extremes = rotate_row(x, next->inputs, turned);
    levels.lowest = _mm512_reduce_min_ps(extremes.lowest);
    float span = _mm512_reduce_max_ps(extremes.highest) - levels.lowest;
    levels.scale = __builtin_isfinite(_mm512_reduce_add_ps(extremes.sum)) ? span / HIGHEST_LEVEL : __builtin_nanf("");
    __m512 begin = _mm512_set1_ps(levels.lowest), steps = _mm512_set1_ps(HIGHEST_LEVEL / (span > TINY ? span : TINY));
    for (int64_t at = 0; at < next->inputs; at += LANES) {
        __m512 level = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(turned + at), begin), steps);
        _mm_storeu_si128((__m128i *)((uint8_t *)words + at), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(level)));
    }
    return levels;
}

/* LayerNorm of a row, in place. */
INLINE void norm_row(float *x, int64_t width, Norm norm)
{
    __m512 sum = _mm512_setzero_ps(), squares = sum;
    for (int64_t at = 0; at < width; at += LANES)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + at));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(x + at), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    float variance = _mm512_reduce_add_ps(squares) / (float)width;
    __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps(variance + norm.eps)));
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 apart = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + at), mean), inverse);
        __m512 gained = _mm512_fmadd_ps(apart, _mm512_loadu_ps(norm.gain + at), _mm512_loadu_ps(norm.shift + at));
        _mm512_storeu_ps(x + at, gained);
    }
}

/* Sums (rows, outputs) of a layer's products with rows of words that stand one after another. */
INLINE void multiply(const Linear *layer, const int32_t *words, int32_t *sums, int64_t rows)
{
    int64_t steps = words_of(layer);
    for (int64_t at = 0; at < layer->outputs; at += PANEL)
        for (int64_t row = 0; row < rows; row += ROWS) {
            int some = (int)(rows - row < ROWS ? rows - row : ROWS);
            Rows x = {words + row * steps, steps};
            Sums out = {sums + row * layer->outputs + at, layer->outputs};
            if (layer->is_bytes)
                multiply_bytes(some, x, layer->weights + at * steps, steps, out);
            else
                multiply_bf16(some, VECTORS, x, layer->weights + at * steps, steps, out);
        }
}
