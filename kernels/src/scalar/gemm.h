/* The twin of avx512/gemm.h in plain C: one sum after another. */

#ifndef SPACY_ELECTRA_SCALAR_GEMM_H
#define SPACY_ELECTRA_SCALAR_GEMM_H

#include <string.h>

#include "../operands.h"

/* Of two words: unsigned by signed bytes in int8. */
INTERNAL int32_t dot(Precision precision, const int32_t *left, const int32_t *right)
{
    uint8_t bytes[4];
    int8_t signed_bytes[4];
    int16_t a[2], b[2];
    int32_t sum = 0;
    memcpy(bytes, left, 4);
    memcpy(signed_bytes, right, 4);
    memcpy(a, left, 4);
    memcpy(b, right, 4);
    if (precision == INT8)
        for (int i = 0; i < 4; i++)
            sum += bytes[i] * signed_bytes[i];
    else
        for (int i = 0; i < 2; i++)
            sum += a[i] * b[i];
    return sum;
}

INTERNAL void gemm(Precision precision, GemmRows x, int64_t rows, const int32_t *weights, int64_t columns,
                   int64_t depth, GemmSums out)
{
    int64_t block = precision == INT16 ? INT16_DEPTH : depth;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            int64_t panel = column / PANEL * PANEL, width = panel_width(panel, columns);
            const int32_t *packed = weights + panel * depth + column - panel;
            float total = 0.0f;
            for (int64_t begin = 0; begin < depth; begin += block) {
                int32_t sum = 0;
                for (int64_t step = begin; step < min_int64(depth, begin + block); step++)
                    sum += dot(precision, x.words + row * x.stride + step, packed + step * width);
                total += (float)sum;
            }
            out.sums[row * out.stride + column] = total;
        }
}

#endif
