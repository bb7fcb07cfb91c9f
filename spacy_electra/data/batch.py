"""The batch type of all layers: rows of pieces with segments, positions and random keys.

Legend: B rows, T pieces a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Special:
    """Numbers of the special pieces in the vocabulary."""

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
    """A batch of packed rows. Every segment of a document has its own [CLS] and [SEP]."""

    ids: Tensor  # (B, T) int64 pieces
    types: Tensor  # (B, T) int64 token types, all 0 for one-segment rows
    segments: Tensor  # (B, T) int64: 0 padding, 1.. the segment within the row
    positions: Tensor  # (B, T) int64, counted from each segment's [CLS]
    keys: Tensor  # (B,) int64 random keys, from seed, epoch and global row
    is_one_segment: bool = False  # known on the processor: every row is one full segment, and attention needs no mask

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @property
    def is_real(self) -> Tensor:
        """(B, T) true at pieces, [CLS] and [SEP] included; false at padding."""
        return self.segments > 0

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Rows":
        return replace(self, **{name: t.to(device, non_blocking=non_blocking) for name, t in self._tensors().items()})

    def pinned(self) -> "Rows":
        """The same batch in pinned memory, for asynchronous copies to a GPU."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self._tensors().items()})

    def split(self, size: int) -> list["Rows"]:
        """The same rows in order, in batches of at most `size`."""
        tensors = self._tensors()
        parts = zip(*(tensor.split(size) for tensor in tensors.values()), strict=True)
        return [replace(self, **dict(zip(tensors, part, strict=True))) for part in parts]

    def _tensors(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def joined(parts: Sequence[Rows], places: Tensor) -> Rows:
    """Join several batches into one.

    parts: batches of the same T.
    places: (B,) for row b of the parts, concatenated, its index in the joined batch.
    """
    order = places.argsort()
    columns = zip(*(part._tensors().values() for part in parts), strict=True)
    tensors = {name: torch.cat(column)[order] for name, column in zip(parts[0]._tensors(), columns, strict=True)}
    return Rows(**tensors, is_one_segment=all(part.is_one_segment for part in parts))
