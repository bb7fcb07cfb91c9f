/* What happens to one row of numbers between two linear layers, whatever these multiply: GELU, exponents, norms. */

typedef struct {
    const float *gain;
    const float *shift;
    float eps;
} Norm;

/* Phi(x), as far as GELU needs it: a polynomial up to 4.4, fitted there by the largest error of x Phi(x), which is 4e-5,
   and the same as at its ends beyond, where the error is below 3e-6 of x. */
INLINE __m512 gelu_share(__m512 x)
{
    static const float powers[] = {3.5693389216495675e-11f, -3.75397313234771e-09f,   1.740820749773775e-07f,
                                   -4.724819063994801e-06f, 8.429249282926321e-05f,   -0.0010549892904236913f,
                                   0.009643017314374447f,   -0.06607641279697418f,    0.3987616002559662f};
    const __m512 end = _mm512_set1_ps(4.4f);
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, end), _mm512_sub_ps(_mm512_setzero_ps(), end));
    __m512 square = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(powers[0]);
    for (int i = 1; i < 9; i++)
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
