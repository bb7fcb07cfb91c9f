/* What happens to one row of numbers between two linear layers, whatever these multiply: GELU, exponents, norms. */

typedef struct {
    const float *gain;
    const float *shift;
    float eps;
} Norm;

/* Phi(x) by an odd polynomial of `count` terms, the highest first, up to `end`, and beyond the same as at its ends. `count` is
   a constant where this is called. */
INLINE __m512 normal_share(const float *powers, int count, float end, __m512 x)
{
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(end)), _mm512_set1_ps(-end));
    __m512 square = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(powers[0]);
    for (int i = 1; i < count; i++)
        p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(powers[i]));
    return _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5f));
}

/* Phi(x), as far as GELU needs it: fitted by the largest error of x Phi(x), which is 4e-5 up to 4.4 and below 3e-6 of x
   beyond. */
INLINE __m512 gelu_share(__m512 x)
{
    static const float powers[] = {3.5693389216495675e-11f, -3.75397313234771e-09f,   1.740820749773775e-07f,
                                   -4.724819063994801e-06f, 8.429249282926321e-05f,   -0.0010549892904236913f,
                                   0.009643017314374447f,   -0.06607641279697418f,    0.3987616002559662f};
    return normal_share(powers, 9, 4.4f, x);
}

/* x Phi(x) */
INLINE __m512 gelu(__m512 x)
{
    return _mm512_mul_ps(x, gelu_share(x));
}

/* x Phi(x) to 2e-4, and to 4e-4 of x beyond 3.4, which is little beside what bytes cost. */
INLINE __m512 gelu_for_bytes(__m512 x)
{
    static const float powers[] = {-7.903623782112845e-07f, 3.706955612869933e-05f, -0.0007447493844665587f,
                                   0.00856210757046938f,    -0.06430455297231674f, 0.39778536558151245f};
    return _mm512_mul_ps(x, normal_share(powers, 6, 3.4f, x));
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

enum { TOGETHER = 4 }; /* rows: what follows from one's sums waits for them, and the others fill the time */

/* LayerNorm in place of rows that stand one after another. `sums` are of their registers. `count` is a constant where this
   is called. */
INLINE void norm_rows(int count, float *x, int64_t width, const __m512 *sums, Norm norm)
{
    __m512 squares[TOGETHER], mean[TOGETHER], inverse[TOGETHER];
    for (int i = 0; i < count; i++) {
        mean[i] = _mm512_set1_ps(_mm512_reduce_add_ps(sums[i]) / (float)width);
        squares[i] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < width; at += LANES)
        for (int i = 0; i < count; i++) {
            __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(x + i * width + at), mean[i]);
            squares[i] = _mm512_fmadd_ps(apart, apart, squares[i]);
        }
    for (int i = 0; i < count; i++)
        inverse[i] = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares[i]) / (float)width + norm.eps));
    for (int64_t at = 0; at < width; at += LANES) {
        __m512 gain = _mm512_loadu_ps(norm.gain + at), shift = _mm512_loadu_ps(norm.shift + at);
        for (int i = 0; i < count; i++) {
            float *place = x + i * width + at;
            __m512 apart = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(place), mean[i]), inverse[i]);
            _mm512_storeu_ps(place, _mm512_fmadd_ps(apart, gain, shift));
        }
    }
}

INLINE void norm_row(float *x, int64_t width, Norm norm)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t at = 0; at < width; at += LANES)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + at));
    norm_rows(1, x, width, &sum, norm);
}
