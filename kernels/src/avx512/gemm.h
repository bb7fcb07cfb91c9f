/* Matrix multiplication of integers, summed in registers: tiles of 6 rows by 64 columns.

   The left side are rows of 32-bit words, each of four int8 or of two int16. The right side is packed: panels of up to
   64 columns, and in a panel, for each word of a row, one word of every column. Of int8 the left side is unsigned, the
   right side is not. The instructions are written in assembler because compilers copy the sums from register to
   register otherwise. */

#ifndef SPACY_ELECTRA_AVX512_GEMM_H
#define SPACY_ELECTRA_AVX512_GEMM_H

#include <immintrin.h>

#include "../operands.h"

#define IN_ROW(DO, i) DO(i, 0) DO(i, 1) DO(i, 2) DO(i, 3)
#define IN_TILE(DO) IN_ROW(DO, 0) IN_ROW(DO, 1) IN_ROW(DO, 2) IN_ROW(DO, 3) IN_ROW(DO, 4) IN_ROW(DO, 5)
#define IN_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define IN_EACH_VECTOR(DO) DO(0) DO(1) DO(2) DO(3)

#define ZERO(i, j) __m512i sum##i##j = _mm512_setzero_si512();
#define LOAD(j) __m512i weight##j = vectors > j ? _mm512_loadu_si512(weights + j * LANES) : _mm512_setzero_si512();
#ifndef DOT_BY /* tests have one for processors without these instructions */
#define DOT_BY(instruction, i, j) __asm__(instruction " %2, %1, %0" : "+v"(sum##i##j) : "v"(word), "v"(weight##j));
#endif
#define DOT(i, j) \
    if (vectors > j && precision == INT8) { \
        DOT_BY("vpdpbusd", i, j) \
    } \
    if (vectors > j && precision == INT16) { \
        DOT_BY("vpdpwssd", i, j) \
    }
#define DOT_ROW(i) \
    if (rows > i) { \
        __m512i word = _mm512_set1_epi32(x.words[i * x.stride + step]); /* one at a time: 28 registers are taken */ \
        IN_ROW(DOT, i) \
    }
#define STORE(i, j) \
    if (rows > i && vectors > j) { \
        float *place = out.sums + i * out.stride + j * LANES; \
        __m512 sum = _mm512_cvtepi32_ps(sum##i##j); \
        _mm512_storeu_ps(place, begin ? _mm512_add_ps(_mm512_loadu_ps(place), sum) : sum); \
    }

/* Rows, vectors and precision are constants where this is called, so that the sums stay in registers. */
INLINE void gemm_tile(int rows, int vectors, Precision precision, GemmRows x, const int32_t *weights, int64_t depth,
                      GemmSums out)
{
    int64_t block = precision == INT16 ? INT16_DEPTH : depth, begin = 0;
    do {
        int64_t end = depth - begin < block ? depth : begin + block;
        IN_TILE(ZERO)
        for (int64_t step = begin; step < end; step++, weights += vectors * LANES) {
            IN_EACH_VECTOR(LOAD)
            IN_EACH_ROW(DOT_ROW)
        }
        IN_TILE(STORE)
    } while ((begin += block) < depth);
}

#define FOR_ROWS(vectors, precision) \
    switch (rows) { \
    case 1: gemm_tile(1, vectors, precision, x, weights, depth, out); break; \
    case 2: gemm_tile(2, vectors, precision, x, weights, depth, out); break; \
    case 3: gemm_tile(3, vectors, precision, x, weights, depth, out); break; \
    case 4: gemm_tile(4, vectors, precision, x, weights, depth, out); break; \
    case 5: gemm_tile(5, vectors, precision, x, weights, depth, out); break; \
    default: gemm_tile(6, vectors, precision, x, weights, depth, out); \
    }

/* Up to 6 rows by one panel of 16 to 64 columns, as a function of this name. */
#define DEFINE_GEMM_PANEL(name, precision) \
    INTERNAL void name(int rows, int vectors, GemmRows x, const int32_t *weights, int64_t depth, GemmSums out) \
    { \
        switch (vectors) { \
        case 1: FOR_ROWS(1, precision) break; \
        case 2: FOR_ROWS(2, precision) break; \
        case 3: FOR_ROWS(3, precision) break; \
        default: FOR_ROWS(4, precision) \
        } \
    }

DEFINE_GEMM_PANEL(gemm_panel_int8, INT8)
DEFINE_GEMM_PANEL(gemm_panel_int16, INT16)

typedef void (*GemmPanel)(int rows, int vectors, GemmRows x, const int32_t *weights, int64_t depth, GemmSums out);

INLINE void gemm_by_panels(GemmPanel gemm_panel, GemmRows x, int64_t rows, const int32_t *weights, int64_t columns,
                           int64_t depth, GemmSums out)
{
    for (int64_t at = 0; at < columns; at += PANEL)
        for (int64_t row = 0; row < rows; row += TILE_ROWS) {
            GemmRows some = {x.words + row * x.stride, x.stride};
            GemmSums sums = {out.sums + row * out.stride + at, out.stride};
            gemm_panel((int)(rows - row < TILE_ROWS ? rows - row : TILE_ROWS), (int)panel_width(at, columns) / LANES,
                       some, weights + at * depth, depth, sums);
        }
}

/* All rows by all columns, which are a multiple of 16; `depth` words in each. */
INLINE void gemm(Precision precision, GemmRows x, int64_t rows, const int32_t *weights, int64_t columns, int64_t depth,
                 GemmSums out)
{
    if (precision == INT8)
        gemm_by_panels(gemm_panel_int8, x, rows, weights, columns, depth, out);
    else
        gemm_by_panels(gemm_panel_int16, x, rows, weights, columns, depth, out);
}

#endif
