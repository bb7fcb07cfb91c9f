"""A shuffled order of any length without memory: a keyed permutation, computed for the requested places.

Takes places and keys, returns numbers; pure. A Feistel network permutes the smallest power of two that holds the
length. A result outside the length is permuted again until it is inside (cycle walking; Black and Rogaway 2002).

Legend: B places.
"""

import torch
from torch import Tensor

from spacy_electra.data.rng import Purpose, mix, random_bits, row_keys

_ROUNDS = 6  # even, so that the two halves end with the widths they began with
_NO_ROW = -1  # an order belongs to an epoch as a whole; no row has this number


def order_keys(seed: int, *, epoch: Tensor) -> Tensor:
    """The keys (B,) int64 of the orders of epochs (B,)."""
    return row_keys(seed, epoch=epoch, row=torch.full_like(epoch, _NO_ROW))


def shuffled(place: Tensor, length: int, *, keys: Tensor) -> Tensor:
    """The numbers (B,) int64 at places of a permutation of 0..length-1.

    place: (B,) int64 in 0..length-1.
    keys: (B,) int64, each of which selects a permutation.
    """
    bits = max(2, (length - 1).bit_length())
    round_keys = random_bits(keys, Purpose.ORDER, _ROUNDS)
    answer = _permute(place, bits, round_keys)
    while bool((outside := answer >= length).any()):
        answer[outside] = _permute(answer[outside], bits, round_keys[outside])
    return answer


def _permute(x: Tensor, bits: int, round_keys: Tensor) -> Tensor:
    """A bijection on [0, 2**bits) for each row of round_keys (B, rounds)."""
    low, high = bits - bits // 2, bits // 2
    left, right = x >> low, x & ((1 << low) - 1)
    for key in round_keys.unbind(dim=1):
        left, right = right, left ^ (mix(key ^ right) & ((1 << high) - 1))
        low, high = high, low
    return (left << low) | right
