/* Dropout: which numbers of a row stay follows from the row's seed, from what the row is for, and from their place in it.

   So nothing is kept of it for the backward pass, and it does not depend on what else is in a batch. */

typedef struct {
    const int64_t *seeds; /* (rows,), NULL for no dropout */
    uint32_t dropped;     /* numbers below this, of 32 bits, are dropped */
    float factor;         /* of those that stay */
} Dropout;

/* What a row is for. Heads count from HEADS on. */
enum { MIXED = 0, FED_FORWARD = 1, HEADS = 2 };

/* Numbers `at` to `at` + 15 of a row: 0, or times the factor. Bits are scrambled as in the last step of MurmurHash3
   (Appleby), which changes each with half of those that it is given. */
INLINE __m512 drop(__m512 x, Dropout dropout, int64_t row, int64_t use, int64_t at)
{
    if (!dropout.seeds)
        return x;
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    uint64_t seed = (uint64_t)dropout.seeds[row] + (uint64_t)use * 0x9e3779b97f4a7c15u;
    __m512i place = _mm512_add_epi32(lanes, _mm512_set1_epi32((int32_t)at));
    __m512i bits = _mm512_mullo_epi32(place, _mm512_set1_epi32((int32_t)0x9e3779b1u));
    bits = _mm512_xor_si512(_mm512_add_epi32(bits, _mm512_set1_epi32((int32_t)seed)),
                            _mm512_set1_epi32((int32_t)(seed >> 32)));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 16));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32((int32_t)0x85ebca6bu));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 13));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32((int32_t)0xc2b2ae35u));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 16));
    __mmask16 stays = _mm512_cmpge_epu32_mask(bits, _mm512_set1_epi32((int32_t)dropout.dropped));
    return _mm512_maskz_mul_ps(stays, x, _mm512_set1_ps(dropout.factor));
}
