"""The input of every backend: sequences side by side without padding, as in flash-attn's varlen functions.

Legend: S tokens of all sequences, B sequences, N rows of the output, D width.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Sequences of different lengths on one axis, and the tokens whose vectors are returned.

    All arrays are int64 and contiguous. Raises ValueError if they are not, or if their sizes do not fit.
    """

    ids: np.ndarray  # (S,) pieces
    positions: np.ndarray  # (S,) of each piece in its sequence
    cu_seqlens: np.ndarray  # (B + 1,) first token of each sequence, at last S
    output_index: np.ndarray  # (N,) token whose vector each row of the answer is; no token twice

    def __post_init__(self) -> None:
        for name, array in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be a contiguous axis of int64, but is {array.dtype} {array.shape}.")
        if len(self.positions) != self.tokens:
            raise ValueError(f"there are {len(self.positions)} positions for {self.tokens} ids.")
        ends = self.cu_seqlens[:1].tolist() + self.cu_seqlens[-1:].tolist()
        if ends != [0, self.tokens] or (self.cu_seqlens[1:] <= self.cu_seqlens[:-1]).any():
            raise ValueError(f"cu_seqlens must rise from 0 to the {self.tokens} tokens, but is {self.cu_seqlens}.")
        wanted = self.output_index
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.tokens:
            raise ValueError(f"output_index names tokens {wanted.min()} to {wanted.max()} of {self.tokens}.")
        if np.count_nonzero(self.output_rows() >= 0) != len(wanted):
            raise ValueError("output_index names a token twice.")

    @property
    def tokens(self) -> int:
        """Number of tokens, S."""
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(B,) tokens of each sequence."""
        return np.diff(self.cu_seqlens)

    def output_rows(self) -> np.ndarray:
        """(S,) output row of each token, -1 for none."""
        rows = np.full(self.tokens, -1)
        rows[self.output_index] = np.arange(len(self.output_index))
        return rows


class EncodeFn(Protocol):
    """An encoder prepared by a backend for the current weights. Threads may share it."""

    def __call__(self, batch: PackedBatch) -> Tensor:
        """(N, D) float32 vectors."""
        ...

    def computed_tokens(self, batch: PackedBatch) -> int:
        """Number of tokens that are computed for a batch, padding included."""
        ...
