/* Numbers and linear layers in bfloat16, for training. Sums are float. */

/* Pointers are to packed weights and to `outputs` numbers. */
typedef struct {
    const int32_t *weights;
    const float *bias;
    int64_t inputs;
    int64_t outputs;
} Linear;

PRODUCT(multiply_bf16, BF16)

INLINE __m256i to_bf16(__m512 x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}

INLINE __m512 bf16_to_float(const uint16_t *x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x)), 16));
}

INLINE void store_bf16(uint16_t *out, __m512 x)
{
    _mm256_storeu_si256((__m256i *)out, to_bf16(x));
}

INLINE void row_to_bf16(const float *x, int64_t width, uint16_t *out)
{
    for (int64_t at = 0; at < width; at += LANES)
        store_bf16(out + at, _mm512_loadu_ps(x + at));
}

/* Output `at` to `at` + 15 of a layer, bias included, from the sums of its products. */
INLINE __m512 output_at(const Linear *layer, const float *sums, int64_t at)
{
    return _mm512_add_ps(_mm512_loadu_ps(sums + at), _mm512_loadu_ps(layer->bias + at));
}

/* Sums (rows, outputs) of a layer's products with rows that stand one after another. */
INLINE void multiply(const Linear *layer, const uint16_t *rows, float *sums, int64_t count)
{
    int64_t steps = layer->inputs / 2;
    multiply_rows(multiply_bf16, (Rows){(const int32_t *)rows, steps}, count, layer->weights, layer->outputs, steps,
                  (Sums){sums, layer->outputs});
}
