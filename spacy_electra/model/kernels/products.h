/* Products of bfloat16 pairs or of byte quadruples, summed in registers: 6 rows by 64 columns at once.

   Takes rows of 32-bit words and packed weights, gives sums. A word holds two bfloat16 or four bytes of one row; packed
   weights stand in panels of up to 64 columns, and in a panel, for each word of a row, one word of every column.
   The products are written in assembler because compilers copy their sums from register to register otherwise. Without
   AVX512-BF16 those of bfloat16 are two products of float each, at less than half of the speed. */

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, ROWS = 6, VECTORS = 4, PANEL = VECTORS * LANES };

/* Rows of words, `stride` words from one to the next. */
typedef struct {
    const int32_t *words;
    int64_t stride;
} Rows;

/* Where sums go, `stride` numbers from one row to the next: float for bfloat16, int32 for bytes. */
typedef struct {
    void *sums;
    int64_t stride;
} Sums;

#define IN_ROW(DO, i) DO(i, 0) DO(i, 1) DO(i, 2) DO(i, 3)
#define IN_ALL(DO) IN_ROW(DO, 0) IN_ROW(DO, 1) IN_ROW(DO, 2) IN_ROW(DO, 3) IN_ROW(DO, 4) IN_ROW(DO, 5)
#define IN_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define IN_EACH_VECTOR(DO) DO(0) DO(1) DO(2) DO(3)

#define ZERO(i, j) __m512i sum##i##j = _mm512_setzero_si512();
#define WEIGHTS(j) __m512i weight##j = vectors > j ? _mm512_loadu_si512(weights + j * LANES) : _mm512_setzero_si512();
#define WORD(i) __m512i word##i = _mm512_set1_epi32(rows > i ? x.words[i * x.stride + step] : 0);
#ifdef __AVX512BF16__
#define ADD_BF16(i, j) \
    if (rows > i && vectors > j) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum##i##j) : "v"(word##i), "v"(weight##j));
#else
#define ADD_BF16(i, j) \
    if (rows > i && vectors > j) sum##i##j = add_pairs(sum##i##j, word##i, weight##j);
#endif
#define ADD_BYTES(i, j) \
    if (rows > i && vectors > j) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum##i##j) : "v"(word##i), "v"(weight##j));
#define STORE(i, j) \
    if (rows > i && vectors > j) _mm512_storeu_si512((int32_t *)out.sums + i * out.stride + j * LANES, sum##i##j);

/* 16 numbers in bfloat16, rounded to the nearest, to even ones in the middle. */
INLINE __m256i to_bf16(__m512 x)
{
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1)));
    bits = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    bits = _mm512_mask_mov_epi32(bits, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
    return _mm512_cvtepi32_epi16(bits);
#endif
}

/* The first number of each pair as a float. */
INLINE __m512 first_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 second_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int32_t)0xffff0000)));
}

INLINE __m512i add_pairs(__m512i sum, __m512i one, __m512i other)
{
    __m512 with_first = _mm512_fmadd_ps(first_of(one), first_of(other), _mm512_castsi512_ps(sum));
    return _mm512_castps_si512(_mm512_fmadd_ps(second_of(one), second_of(other), with_first));
}

/* All but the pointers are constants where this is called, so that the sums stay in registers. */
INLINE void tile(int rows, int vectors, int is_bytes, Rows x, const int32_t *weights, int64_t steps, Sums out)
{
    IN_ALL(ZERO)
    for (int64_t step = 0; step < steps; step++, weights += vectors * LANES) {
        IN_EACH_VECTOR(WEIGHTS)
        IN_EACH_ROW(WORD)
        if (is_bytes) {
            IN_ALL(ADD_BYTES)
        } else {
            IN_ALL(ADD_BF16)
        }
    }
    IN_ALL(STORE)
}

#define FOR_ROWS(vectors, is_bytes) \
    switch (rows) { \
    case 1: tile(1, vectors, is_bytes, x, weights, steps, out); break; \
    case 2: tile(2, vectors, is_bytes, x, weights, steps, out); break; \
    case 3: tile(3, vectors, is_bytes, x, weights, steps, out); break; \
    case 4: tile(4, vectors, is_bytes, x, weights, steps, out); break; \
    case 5: tile(5, vectors, is_bytes, x, weights, steps, out); break; \
    default: tile(6, vectors, is_bytes, x, weights, steps, out); \
    }

/* Up to 6 rows by one panel of 64 columns, of bytes: x unsigned, weights signed. */
static void multiply_bytes(int rows, Rows x, const int32_t *weights, int64_t steps, Sums out)
{
    FOR_ROWS(4, 1)
}

/* Up to 6 rows by one panel of 16 to 64 columns, of bfloat16. */
static void multiply_bf16(int rows, int vectors, Rows x, const int32_t *weights, int64_t steps, Sums out)
{
    switch (vectors) {
    case 1: FOR_ROWS(1, 0) break;
    case 2: FOR_ROWS(2, 0) break;
    case 3: FOR_ROWS(3, 0) break;
    default: FOR_ROWS(4, 0)
    }
}
