/* GELU and powers of two, by polynomials. */

#ifndef SPACY_ELECTRA_AVX512_ACTIVATIONS_H
#define SPACY_ELECTRA_AVX512_ACTIVATIONS_H

#include <immintrin.h>

#include "../common.h"

/* Phi(x), the normal distribution function, by an odd polynomial of `count` terms, the highest first, up to `end`, and
   beyond the same as at its ends. `count` is a constant where this is called. */
INLINE __m512 normal_cdf(const float *terms, int count, float end, __m512 x)
{
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(end)), _mm512_set1_ps(-end));
    __m512 square = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(terms[0]);
    for (int i = 1; i < count; i++)
        p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(terms[i]));
    return _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5f));
}

/* x Phi(x) to 4e-5 up to 4.4, and to 3e-6 of x beyond. */
INLINE __m512 gelu(__m512 x)
{
    static const float terms[] = {3.5693389216495675e-11f, -3.75397313234771e-09f, 1.740820749773775e-07f,
                                  -4.724819063994801e-06f, 8.429249282926321e-05f, -0.0010549892904236913f,
                                  0.009643017314374447f,   -0.06607641279697418f,  0.3987616002559662f};
    return _mm512_mul_ps(x, normal_cdf(terms, 9, 4.4f, x));
}

/* x Phi(x) to 2e-4, and to 4e-4 of x beyond 3.4, which is little beside what rounding to int8 costs. */
INLINE __m512 gelu_for_int8(__m512 x)
{
    static const float terms[] = {-7.903623782112845e-07f, 3.706955612869933e-05f, -0.0007447493844665587f,
                                  0.00856210757046938f,    -0.06430455297231674f,  0.39778536558151245f};
    return _mm512_mul_ps(x, normal_cdf(terms, 6, 3.4f, x));
}

/* 2 to the power of x, to 4e-6 of its value; 0 for what is far below. */
INLINE __m512 exp2_ps(__m512 x)
{
    static const float terms[] = {0.009570040740072727f, 0.05591772496700287f, 0.240247443318367f, 0.6931218504905701f,
                                  0.9999992847442627f};
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(terms[0]);
    for (int i = 1; i < 5; i++)
        p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(terms[i]));
    return _mm512_scalef_ps(p, whole);
}

#endif
