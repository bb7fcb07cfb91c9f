/* Sizes of registers and tiles, and integer helpers, for all files of the library. */

#ifndef SPACY_ELECTRA_COMMON_H
#define SPACY_ELECTRA_COMMON_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define INTERNAL static __attribute__((unused)) /* a program may include a header and call a part of it */

enum { LANES = 16 };                      /* 32-bit numbers of a register */
enum { TILE_ROWS = 6, TILE_VECTORS = 4 }; /* of a matrix multiplication's sums, held in registers */
enum { PANEL = TILE_VECTORS * LANES };    /* columns of packed weights that stand together */
enum { INT16_DEPTH = 128 };               /* words of int16 that are summed in 32 bits */
enum { INT16_PART = 2 * INT16_DEPTH };    /* the same in numbers */
enum { ROTATED = 16 };                    /* registers that are rotated together, at most */

/* From `begin` to `end`, the last not included. */
typedef struct {
    int64_t begin;
    int64_t end;
} Range;

INLINE int64_t max_int64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

INLINE int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t round_up(int64_t number, int64_t multiple)
{
    return (number + multiple - 1) / multiple * multiple;
}

/* Columns of the panel that begins at `panel_begin`. */
INLINE int64_t panel_width(int64_t panel_begin, int64_t columns)
{
    return columns - panel_begin < PANEL ? columns - panel_begin : PANEL;
}

/* Registers that are rotated together: the largest power of two, up to ROTATED, that divides the number of a row's. */
INLINE int rotation_size(int64_t width)
{
    int64_t registers = width / LANES, size = registers & -registers;
    return (int)(size < ROTATED ? size : ROTATED);
}

#endif
