"""Dropout as an argument of the forward pass: off, or with one of two sources of randomness.

Legend: B rows; the tensors have any further dimensions.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from spacy_electra.data.rng import Purpose, mix, random_uniform

RANDOM_LEVELS = 2**16  # of chance: one draw of torch's generator is enough for four numbers


class Dropout(Protocol):
    rate: float

    def __call__(self, x: Tensor) -> Tensor: ...

    def for_block(self, number: int) -> "Dropout":
        """The dropout of one block, the same however often the block is computed."""
        ...


@dataclass
class NoDropout:
    """Dropout that is off."""

    rate: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def for_block(self, number: int) -> "NoDropout":
        return self


NO_DROPOUT = NoDropout()


@dataclass
class TorchDropout:
    """Dropout from torch's global random state, as in the rest of spaCy's training."""

    rate: float

    def __call__(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.dropout(x, self.rate, training=True)
        return x * _factors(x, self.rate)

    def for_block(self, number: int) -> "TorchDropout":
        return self  # torch's generator is turned back where a block is computed again


def _factors(x: Tensor, rate: float) -> Tensor:
    """In the shape of x, 0 for a `rate` of the numbers, else what makes up for them.

    torch draws for each number by itself, which takes three times as long where MKL does not do it (it does on Intel's
    processors). The rate is rounded to a multiple of 1 / RANDOM_LEVELS, and the rest is scaled by the rounded rate.
    """
    dropped = min(round(rate * RANDOM_LEVELS), RANDOM_LEVELS - 1)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    is_kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - RANDOM_LEVELS // 2
    return is_kept.to(x.dtype).mul_(RANDOM_LEVELS / (RANDOM_LEVELS - dropped))


@dataclass
class KeyedDropout:
    """Dropout as a function of each row's key: independent of the batch size and the number of ranks.

    Make one per forward pass and network; each call has a purpose of its own.
    """

    rate: float
    keys: Tensor  # (B,) int64
    network: int  # so that generator and discriminator draw different numbers
    calls: int = field(default=0, init=False)

    def __call__(self, x: Tensor) -> Tensor:
        chance = random_uniform(mix(self.keys), self._purpose(), x[0].numel()).view_as(x)
        return x * (chance >= self.rate).to(x.dtype) / (1.0 - self.rate)

    def _purpose(self) -> int:
        self.calls += 1
        return Purpose.DROPOUT + (self.network << 8) + (self.calls << 16)

    def for_block(self, number: int) -> "KeyedDropout":
        block = KeyedDropout(self.rate, self.keys, self.network)
        block.calls = (number + 1) << 8
        return block
