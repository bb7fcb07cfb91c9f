"""What every backend reads: sequences side by side without padding, as flash-attn's varlen functions take them.

Legend: S tokens of all sequences, B sequences, N rows of the answer, D width.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Sequences of many lengths on one axis, and which of their vectors are wanted.

    All arrays are int64 and contiguous. Raises ValueError where they are not, or do not fit each other.
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
        """S."""
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(B,) tokens of each sequence."""
        return np.diff(self.cu_seqlens)

    def output_rows(self) -> np.ndarray:
        """(S,) row of the answer that takes each token's vector, -1 for none."""
        rows = np.full(self.tokens, -1)
        rows[self.output_index] = np.arange(len(self.output_index))
        return rows


class EncodeFn(Protocol):
    """An encoder that predicts, as a backend prepared it for one state of its weights. Threads may share it."""

    def __call__(self, batch: PackedBatch) -> Tensor:
        """(N, D) float32 vectors."""
        ...

    def computed_tokens(self, batch: PackedBatch) -> int:
        """How many tokens are computed for a batch, padding included."""
        ...
