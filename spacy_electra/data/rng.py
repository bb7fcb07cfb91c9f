"""Random numbers as a pure function of (seed, epoch, global row, purpose). Nothing to checkpoint.

Every number is a hash of its own address, so it is the same on every device, for every batch size and for every
number of ranks. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014) on wrapping int64 arithmetic.

Legend: B rows, N numbers a row.
"""

from enum import IntEnum

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_LOW_63_BITS = (1 << 63) - 1


class Purpose(IntEnum):
    """The use of a random number; two purposes never share one."""

    ORDER = 1
    POSITIONS = 2
    KEEP = 3
    SAMPLE = 4
    DROPOUT = 5


def _shift_right(x: Tensor, by: int) -> Tensor:
    """Logical shift: int64's own shift would copy the sign bit."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def mix(x: Tensor) -> Tensor:
    """Scramble int64 numbers of any shape; a bijection on 64 bits."""
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def row_keys(seed: int, *, epoch: Tensor, row: Tensor) -> Tensor:
    """One key (B,) int64 for each row of a batch.

    epoch: (B,) int64.
    row: (B,) int64, the row's number within the epoch.
    """
    start = mix(torch.full((), seed, dtype=torch.int64, device=row.device))
    return mix(mix(start ^ epoch.to(torch.int64)) ^ row.to(torch.int64))


def random_bits(keys: Tensor, purpose: int, count: int) -> Tensor:
    """`count` random numbers (B, N) int64 in [0, 2**63) for each key (B,)."""
    place = torch.arange(count, dtype=torch.int64, device=keys.device)
    # filled on the device: a number copied to a graphics card would wait for all that it has still to do
    stream = mix(keys ^ mix(torch.full((), int(purpose), dtype=torch.int64, device=keys.device)))
    return mix(stream[:, None] ^ place) & _LOW_63_BITS


def random_uniform(keys: Tensor, purpose: int, count: int) -> Tensor:
    """`count` random numbers (B, N) float32 in [0, 1), of 24 bits each, for each key (B,)."""
    return (random_bits(keys, purpose, count) >> 39).to(torch.float32) * 2.0**-24
