/* Products of words, summed in registers: 6 rows by 64 columns at once.

   Takes rows of 32-bit words and packed weights, gives sums. A word holds four bytes or two 16-bit integers
   of one row; packed weights stand in panels of up to 64 columns, and in a panel, for each word of a row, one word of
   every column. The products are written in assembler because compilers copy their sums from register to register
   otherwise. */

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, ROWS = 6, VECTORS = 4, PANEL = VECTORS * LANES };
enum { DEEP = 128 }; /* words of shorts that are summed before their sum becomes float */
enum { INTERFACE = 4 }; /* the same number as in library.py, or the two were not made for each other */

/* What a word holds. */
typedef enum { BYTES = 1, SHORTS = 2 } Kind;

/* Rows of words, `stride` words from one to the next. */
typedef struct {
    const int32_t *words;
    int64_t stride;
} Rows;

/* Where sums go, `stride` numbers from one row to the next. */
typedef struct {
    float *sums;
    int64_t stride;
} Sums;

#define IN_ROW(DO, i) DO(i, 0) DO(i, 1) DO(i, 2) DO(i, 3)
#define IN_ALL(DO) IN_ROW(DO, 0) IN_ROW(DO, 1) IN_ROW(DO, 2) IN_ROW(DO, 3) IN_ROW(DO, 4) IN_ROW(DO, 5)
#define IN_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define IN_EACH_VECTOR(DO) DO(0) DO(1) DO(2) DO(3)

#define ZERO(i, j) __m512i sum##i##j = _mm512_setzero_si512();
#define WEIGHTS(j) __m512i weight##j = vectors > j ? _mm512_loadu_si512(weights + j * LANES) : _mm512_setzero_si512();
#ifndef ADD_BY /* tests have one for processors without these instructions */
#define ADD_BY(instruction, i, j) __asm__(instruction " %2, %1, %0" : "+v"(sum##i##j) : "v"(word), "v"(weight##j));
#endif
#define ADD(i, j) \
    if (vectors > j && kind == BYTES) ADD_BY("vpdpbusd", i, j) \
    if (vectors > j && kind == SHORTS) ADD_BY("vpdpwssd", i, j)
#define ADD_ROW(i) \
    if (rows > i) { \
        __m512i word = _mm512_set1_epi32(x.words[i * x.stride + step]); /* one at a time: 28 registers are taken */ \
        IN_ROW(ADD, i) \
    }
#define STORE(i, j) \
    if (rows > i && vectors > j) { \
        float *place = out.sums + i * out.stride + j * LANES; \
        __m512 sum = _mm512_cvtepi32_ps(sum##i##j); \
        _mm512_storeu_ps(place, begin ? _mm512_add_ps(_mm512_loadu_ps(place), sum) : sum); \
    }

/* Rows, vectors and kind are constants where this is called, so that the sums stay in registers. */
INLINE void tile(int rows, int vectors, Kind kind, Rows x, const int32_t *weights, int64_t steps, Sums out)
{
    int64_t deep = kind == SHORTS ? DEEP : steps, begin = 0;
    do {
        int64_t end = steps - begin < deep ? steps : begin + deep;
        IN_ALL(ZERO)
        for (int64_t step = begin; step < end; step++, weights += vectors * LANES) {
            IN_EACH_VECTOR(WEIGHTS)
            IN_EACH_ROW(ADD_ROW)
        }
        IN_ALL(STORE)
    } while ((begin += deep) < steps);
}

#define FOR_ROWS(vectors, kind) \
    switch (rows) { \
    case 1: tile(1, vectors, kind, x, weights, steps, out); break; \
    case 2: tile(2, vectors, kind, x, weights, steps, out); break; \
    case 3: tile(3, vectors, kind, x, weights, steps, out); break; \
    case 4: tile(4, vectors, kind, x, weights, steps, out); break; \
    case 5: tile(5, vectors, kind, x, weights, steps, out); break; \
    default: tile(6, vectors, kind, x, weights, steps, out); \
    }

/* Up to 6 rows by one panel of 16 to 64 columns, as a function of this name. Of bytes, rows are unsigned, weights not. */
#define PRODUCT(name, kind) \
    static void name(int rows, int vectors, Rows x, const int32_t *weights, int64_t steps, Sums out) \
    { \
        switch (vectors) { \
        case 1: FOR_ROWS(1, kind) break; \
        case 2: FOR_ROWS(2, kind) break; \
        case 3: FOR_ROWS(3, kind) break; \
        default: FOR_ROWS(4, kind) \
        } \
    }

typedef void (*Product)(int rows, int vectors, Rows x, const int32_t *weights, int64_t steps, Sums out);

INLINE int64_t columns_in(int64_t panel_begin, int64_t columns)
{
    return columns - panel_begin < PANEL ? columns - panel_begin : PANEL;
}

/* All rows by all columns, which are a multiple of 16. */
INLINE void multiply_rows(Product product, Rows x, int64_t rows, const int32_t *weights, int64_t columns, int64_t steps,
                          Sums out)
{
    for (int64_t at = 0; at < columns; at += PANEL)
        for (int64_t row = 0; row < rows; row += ROWS) {
            Rows some = {x.words + row * x.stride, x.stride};
            Sums sums = {out.sums + row * out.stride + at, out.stride};
            product((int)(rows - row < ROWS ? rows - row : ROWS), (int)columns_in(at, columns) / LANES, some,
                    weights + at * steps, steps, sums);
        }
}
