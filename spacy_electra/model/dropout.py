"""Dropout, as a value that is handed to the forward pass. Off is `None`; two kinds of randomness otherwise.

Legend: B rows; the tensors dropped from have any further dimensions.
"""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from spacy_electra.data.randomness import Purpose, mix, random_uniform


class Dropout(Protocol):
    def __call__(self, x: Tensor) -> Tensor: ...

    def for_block(self, number: int) -> "Dropout":
        """The dropout of one block, the same however often the block is computed."""
        ...


@dataclass
class TorchDropout:
    """Dropout from torch's running generator, as everything else in spaCy training does it."""

    rate: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, training=True)

    def for_block(self, number: int) -> "TorchDropout":
        return self  # torch's generator is turned back where a block is computed again


@dataclass
class KeyedDropout:
    """Dropout as a function of each row's key: the same for any batch size and any number of ranks.

    Make one per forward pass and network; each call counts as another purpose.
    """

    rate: float
    keys: Tensor  # (B,) int64
    network: int  # so that generator and discriminator draw different numbers
    calls: int = field(default=0, init=False)

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        purpose = Purpose.DROPOUT + (self.network << 8) + (self.calls << 16)
        chance = random_uniform(mix(self.keys), purpose, x[0].numel()).view_as(x)
        return x * (chance >= self.rate).to(x.dtype) / (1.0 - self.rate)

    def for_block(self, number: int) -> "KeyedDropout":
        block = KeyedDropout(self.rate, self.keys, self.network)
        block.calls = (number + 1) << 8
        return block
