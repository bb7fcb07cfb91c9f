"""What a batch is: rows of pieces with their documents, positions and random keys. The type that all layers share.

Legend: B rows, T pieces a row.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Special:
    """Numbers of the pieces that are no text, as the vocabulary has them."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    @property
    def all(self) -> tuple[int, ...]:
        return (self.pad, self.unk, self.cls, self.sep, self.mask)


@dataclass(frozen=True)
class Rows:
    """A batch as the packing makes it. Every stretch of a document stands between its own [CLS] and [SEP]."""

    ids: Tensor  # (B, T) int64 pieces
    types: Tensor  # (B, T) int64 token types, all 0 for one-segment rows
    segments: Tensor  # (B, T) int64: 0 padding, 1.. the stretch within the row
    positions: Tensor  # (B, T) int64, counted from each stretch's [CLS]
    keys: Tensor  # (B,) int64 random keys, from seed, epoch and global row

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @property
    def is_real(self) -> Tensor:
        """(B, T) true where a piece stands, [CLS] and [SEP] included."""
        return self.segments > 0

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Rows":
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return replace(self, **moved)

    def split(self, size: int) -> list["Rows"]:
        """The same rows in order, in batches of at most `size`."""
        pieces = [getattr(self, f.name).split(size) for f in fields(self)]
        names = [f.name for f in fields(self)]
        return [Rows(**dict(zip(names, parts, strict=True))) for parts in zip(*pieces, strict=True)]
