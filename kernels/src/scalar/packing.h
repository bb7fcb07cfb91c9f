/* The twin of avx512/packing.h in plain C. */

#ifndef SPACY_ELECTRA_SCALAR_PACKING_H
#define SPACY_ELECTRA_SCALAR_PACKING_H

#include <string.h>

#include "../operands.h"

INTERNAL void pack_keys(HeadRows keys, int32_t *packed)
{
    int64_t words = keys.channels / 2, columns = round_up(keys.length, LANES);
    for (int64_t row = 0; row < columns; row++)
        for (int64_t word = 0; word < words; word++) {
            int64_t panel = row / PANEL * PANEL;
            int32_t *place = packed + panel * words + word * panel_width(panel, columns) + row - panel;
            *place = 0;
            if (row < keys.length)
                memcpy(place, keys.data + row * keys.stride + 2 * word, 4);
        }
}

INTERNAL void pack_values(HeadRows values, int32_t *packed)
{
    int64_t rows = round_up(values.length, LANES);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t channel = 0; channel < values.channels; channel++) {
            int64_t panel = channel / PANEL * PANEL, width = panel_width(panel, values.channels);
            int32_t *word = packed + panel * rows / 2 + row / 2 * width + channel - panel;
            int16_t value = row < values.length ? values.data[row * values.stride + channel] : 0;
            memcpy((char *)word + row % 2 * 2, &value, 2);
        }
}

INTERNAL void sum_packed_keys(const int32_t *packed, int64_t columns, int64_t depth, float *offsets)
{
    for (int64_t column = 0; column < columns; column++) {
        int64_t panel = column / PANEL * PANEL;
        int32_t sum = 0;
        for (int64_t step = 0; step < depth; step++) {
            int8_t keys[4];
            memcpy(keys, packed + panel * depth + step * panel_width(panel, columns) + column - panel, 4);
            for (int i = 0; i < 4; i++)
                sum += QUERY_ZERO_POINT * keys[i];
        }
        offsets[column] = (float)sum;
    }
}

#endif
