/* The intrinsics of the kernels in plain C, number by number, so that they run under sanitizers on any processor. They
   are named and defined as Intel's; only those that the kernels use are here. */

#ifndef PLAIN_IMMINTRIN_H
#define PLAIN_IMMINTRIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64)));
typedef int32_t __m512i __attribute__((vector_size(64)));
typedef int32_t __m256i __attribute__((vector_size(32)));
typedef int32_t __m128i __attribute__((vector_size(16)));
typedef uint16_t __mmask16;

#define PLAIN static inline __attribute__((unused))
#define EACH(count) for (int i = 0; i < (count); i++)
#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_NO_EXC 8

typedef union {
    __m512 ps;
    __m512i si;
    float f[16];
    int32_t i[16];
    uint32_t u[16];
    int64_t l[8];
    uint8_t b[64];
    int8_t s[64];
    int16_t h[32];
} Register;

/* What an operation of one name does with each number: `a` and `b` are the operands, `r` the answer. */
#define OF_ONE(name, out, in, expression) \
    PLAIN out name(in x) \
    { \
        Register a, r; \
        memcpy(&a, &x, sizeof(x)); \
        EACH(16) expression; \
        out y; \
        memcpy(&y, &r, sizeof(y)); \
        return y; \
    }
#define OF_TWO(name, out, in, expression) \
    PLAIN out name(in x, in z) \
    { \
        Register a, b, r; \
        memcpy(&a, &x, 64); \
        memcpy(&b, &z, 64); \
        EACH(16) expression; \
        out y; \
        memcpy(&y, &r, sizeof(y)); \
        return y; \
    }
#define READ(name, type) \
    PLAIN type name(const void *from) \
    { \
        type x; \
        memcpy(&x, from, sizeof(x)); \
        return x; \
    }
#define WRITE(name, type) \
    PLAIN void name(void *to, type x) \
    { \
        memcpy(to, &x, sizeof(x)); \
    }

PLAIN int32_t plain_rounded(float x) /* as the processor: to even, and the lowest number for what has no integer */
{
    return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)lrintf(x) : INT32_MIN;
}

PLAIN int32_t plain_between(int32_t low, int32_t x, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

READ(_mm512_loadu_ps, __m512)
READ(_mm512_loadu_si512, __m512i)
READ(_mm256_loadu_si256, __m256i)
WRITE(_mm512_storeu_ps, __m512)
WRITE(_mm512_storeu_si512, __m512i)
WRITE(_mm256_storeu_si256, __m256i)
WRITE(_mm_storeu_si128, __m128i)

PLAIN __m512 _mm512_set1_ps(float x)
{
    return x - (__m512){0};
}
PLAIN __m512i _mm512_set1_epi32(int32_t x)
{
    return x - (__m512i){0};
}
PLAIN __m512 _mm512_setzero_ps(void)
{
    return (__m512){0};
}
PLAIN __m512i _mm512_setzero_si512(void)
{
    return (__m512i){0};
}
PLAIN __m256i _mm256_setzero_si256(void)
{
    return (__m256i){0};
}
PLAIN __m512i _mm512_set1_epi8(char x)
{
    Register r;
    memset(&r, x, 64);
    return r.si;
}
#define _mm512_set_epi32(p, o, n, m, l, k, j, i, h, g, f, e, d, c, b, a) \
    ((__m512i){a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p})

PLAIN __m512 _mm512_add_ps(__m512 x, __m512 y)
{
    return x + y;
}
PLAIN __m512 _mm512_sub_ps(__m512 x, __m512 y)
{
    return x - y;
}
PLAIN __m512 _mm512_mul_ps(__m512 x, __m512 y)
{
    return x * y;
}
PLAIN __m512 _mm512_fmadd_ps(__m512 x, __m512 y, __m512 z)
{
    return x * y + z;
}
PLAIN __m512 _mm512_fnmadd_ps(__m512 x, __m512 y, __m512 z)
{
    return z - x * y;
}
OF_TWO(_mm512_max_ps, __m512, __m512, r.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i])
OF_TWO(_mm512_min_ps, __m512, __m512, r.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i])
OF_ONE(_mm512_abs_ps, __m512, __m512, r.u[i] = a.u[i] & 0x7fffffff)
PLAIN float plain_scaled(float x, float by) /* what is no number times 2 to the power of minus infinity is 0 */
{
    if (by != by || x != x)
        return by < 0.0f && isinf(by) ? 0.0f : x + by;
    return ldexpf(x, (int)fmaxf(-400.0f, fminf(400.0f, floorf(by))));
}
OF_TWO(_mm512_scalef_ps, __m512, __m512, r.f[i] = plain_scaled(a.f[i], b.f[i]))
PLAIN __m512 _mm512_roundscale_ps(__m512 x, int mode)
{
    Register a = {x};
    (void)mode;
    EACH(16) a.f[i] = nearbyintf(a.f[i]);
    return a.ps;
}

OF_TWO(_mm512_add_epi32, __m512i, __m512i, r.u[i] = a.u[i] + b.u[i])
OF_TWO(_mm512_mullo_epi32, __m512i, __m512i, r.u[i] = a.u[i] * b.u[i])
OF_TWO(_mm512_or_si512, __m512i, __m512i, r.u[i] = a.u[i] | b.u[i])
OF_TWO(_mm512_xor_si512, __m512i, __m512i, r.u[i] = a.u[i] ^ b.u[i])
OF_TWO(_mm512_max_epu32, __m512i, __m512i, r.u[i] = a.u[i] > b.u[i] ? a.u[i] : b.u[i])
PLAIN __m512i _mm512_slli_epi32(__m512i x, int by)
{
    Register a = {.si = x};
    EACH(16) a.u[i] <<= by;
    return a.si;
}
PLAIN __m512i _mm512_srli_epi32(__m512i x, int by)
{
    Register a = {.si = x};
    EACH(16) a.u[i] >>= by;
    return a.si;
}

OF_ONE(_mm512_castps_si512, __m512i, __m512, r.u[i] = a.u[i])
OF_ONE(_mm512_castsi512_ps, __m512, __m512i, r.u[i] = a.u[i])
OF_ONE(_mm512_cvtepi32_ps, __m512, __m512i, r.f[i] = (float)a.i[i])
OF_ONE(_mm512_cvtps_epi32, __m512i, __m512, r.i[i] = plain_rounded(a.f[i]))
OF_ONE(_mm512_cvtepi16_epi32, __m512i, __m256i, r.i[i] = a.h[i])
OF_ONE(_mm512_cvtepu16_epi32, __m512i, __m256i, r.i[i] = (uint16_t)a.h[i])
OF_ONE(_mm512_cvtsepi32_epi16, __m256i, __m512i, r.h[i] = (int16_t)plain_between(-32768, a.i[i], 32767))
OF_ONE(_mm512_cvtusepi32_epi8, __m128i, __m512i, r.b[i] = a.u[i] > 255 ? 255 : (uint8_t)a.u[i])
OF_ONE(_mm512_cvtepi32_epi8, __m128i, __m512i, r.b[i] = (uint8_t)a.u[i])
PLAIN __m512i _mm512_castsi256_si512(__m256i x)
{
    Register r = {{0}};
    memcpy(&r, &x, 32);
    return r.si;
}
PLAIN __m512i _mm512_inserti64x4(__m512i x, __m256i y, int half)
{
    Register r = {.si = x};
    memcpy(r.b + 32 * half, &y, 32);
    return r.si;
}

PLAIN float _mm512_reduce_add_ps(__m512 x) /* in the order of the compiler: halves, so that no bit differs */
{
    Register a = {x};
    for (int half = 8; half; half /= 2)
        EACH(half) a.f[i] += a.f[i + half];
    return a.f[0];
}
PLAIN float _mm512_reduce_max_ps(__m512 x)
{
    Register a = {x};
    EACH(16) a.f[0] = a.f[0] > a.f[i] ? a.f[0] : a.f[i];
    return a.f[0];
}
PLAIN float _mm512_reduce_min_ps(__m512 x)
{
    Register a = {x};
    EACH(16) a.f[0] = a.f[0] < a.f[i] ? a.f[0] : a.f[i];
    return a.f[0];
}
PLAIN uint32_t _mm512_reduce_max_epu32(__m512i x)
{
    Register a = {.si = x};
    EACH(16) a.u[0] = a.u[0] > a.u[i] ? a.u[0] : a.u[i];
    return a.u[0];
}

#define TAKEN(mask) ((mask) >> i & 1)
PLAIN __m512 _mm512_mask_loadu_ps(__m512 x, __mmask16 mask, const float *from)
{
    Register r = {x};
    EACH(16) if (TAKEN(mask)) r.f[i] = from[i];
    return r.ps;
}
PLAIN __m512i _mm512_maskz_loadu_epi32(__mmask16 mask, const void *from)
{
    Register r = {{0}};
    EACH(16) if (TAKEN(mask)) memcpy(r.i + i, (const char *)from + 4 * i, 4);
    return r.si;
}
PLAIN __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 x)
{
    Register r = {x};
    EACH(16) r.f[i] = TAKEN(mask) ? r.f[i] : 0.0f;
    return r.ps;
}
PLAIN __m512 _mm512_maskz_mul_ps(__mmask16 mask, __m512 x, __m512 y)
{
    return _mm512_maskz_mov_ps(mask, x * y);
}
PLAIN __m512 _mm512_mask_max_ps(__m512 other, __mmask16 mask, __m512 x, __m512 y)
{
    Register r = {other}, a = {_mm512_max_ps(x, y)};
    EACH(16) if (TAKEN(mask)) r.f[i] = a.f[i];
    return r.ps;
}
PLAIN __mmask16 _mm512_cmpge_epu32_mask(__m512i x, __m512i y)
{
    Register a = {.si = x}, b = {.si = y};
    unsigned r = 0;
    EACH(16) r |= (unsigned)(a.u[i] >= b.u[i]) << i;
    return (__mmask16)r;
}
PLAIN __mmask16 _mm512_fpclass_ps_mask(__m512 x, int kind)
{
    Register a = {x};
    unsigned r = 0;
    (void)kind;
    EACH(16) r |= (unsigned)!isfinite(a.f[i]) << i;
    return (__mmask16)r;
}

/* Of each 128 bits: the lower or the higher numbers of both, in turn. */
#define UNPACK(name, numbers, each, from) \
    PLAIN __m512i name(__m512i x, __m512i y) \
    { \
        Register a = {.si = x}, b = {.si = y}, r; \
        for (int lane = 0; lane < 16 / each; lane++) \
            EACH(each / 2) \
            { \
                r.numbers[lane * each + 2 * i] = a.numbers[lane * each + from + i]; \
                r.numbers[lane * each + 2 * i + 1] = b.numbers[lane * each + from + i]; \
            } \
        return r.si; \
    }
UNPACK(_mm512_unpacklo_epi32, i, 4, 0)
UNPACK(_mm512_unpackhi_epi32, i, 4, 2)
#define UNPACK_LONG(name, from) \
    PLAIN __m512i name(__m512i x, __m512i y) \
    { \
        Register a = {.si = x}, b = {.si = y}, r; \
        EACH(4) \
        { \
            r.l[2 * i] = a.l[2 * i + from]; \
            r.l[2 * i + 1] = b.l[2 * i + from]; \
        } \
        return r.si; \
    }
UNPACK_LONG(_mm512_unpacklo_epi64, 0)
UNPACK_LONG(_mm512_unpackhi_epi64, 1)
PLAIN __m512i _mm512_shuffle_i32x4(__m512i x, __m512i y, int order)
{
    Register a = {.si = x}, b = {.si = y}, r;
    EACH(4) memcpy(r.i + 4 * i, (i < 2 ? a.i : b.i) + 4 * (order >> 2 * i & 3), 16);
    return r.si;
}

/* Sums of products of what a word holds. */
PLAIN __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i x, __m512i y)
{
    Register r = {.si = sum}, a = {.si = x}, b = {.si = y};
    EACH(64) r.u[i / 4] += (uint32_t)(a.b[i] * b.s[i]);
    return r.si;
}
PLAIN __m512i plain_dpwssd(__m512i sum, __m512i x, __m512i y)
{
    Register r = {.si = sum}, a = {.si = x}, b = {.si = y};
    EACH(32) r.u[i / 2] += (uint32_t)(a.h[i] * b.h[i]);
    return r.si;
}
PLAIN __m512i plain_by(const char *instruction, __m512i sum, __m512i x, __m512i y)
{
    return instruction[4] == 'b' ? _mm512_dpbusd_epi32(sum, x, y) : plain_dpwssd(sum, x, y);
}
#define DOT_BY(instruction, i, j) sum##i##j = plain_by(instruction, sum##i##j, word, weight##j);

#endif
