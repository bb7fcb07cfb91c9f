"""Align tokens with pieces by array operations. Takes character offsets, returns ranges of pieces; pure numpy.

The characters, tokens and pieces of all documents are each on one axis, document by document.

Legend: M tokens, N pieces.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spans:
    """Character offsets of tokens or pieces; starts and ends never decrease."""

    start: np.ndarray  # (M or N,) int64 first character
    end: np.ndarray  # (M or N,) int64 character after the last

    def __getitem__(self, which: np.ndarray) -> "Spans":
        return Spans(start=self.start[which], end=self.end[which])


@dataclass(frozen=True)
class Alignment:
    """The range of pieces of each token; empty for white space."""

    first: np.ndarray  # (M,) int64
    count: np.ndarray  # (M,) int64

    @property
    def flat(self) -> np.ndarray:
        """(count.sum(),) indices of the pieces of all tokens, token by token."""
        before = np.cumsum(self.count) - self.count
        return np.repeat(self.first - before, self.count) + np.arange(int(self.count.sum()))


def align(tokens: Spans, pieces: Spans, *, is_space: np.ndarray, bounds: np.ndarray) -> Alignment:
    """Align each token with the pieces that overlap it; if there are none, with the nearest piece of its document.

    is_space: (M,) bool, tokens that get no piece.
    bounds: (M, 2) range of pieces of the token's document, end exclusive. A document with tokens must have a piece.
    """
    first = np.searchsorted(pieces.end, tokens.start, side="right")
    after = np.searchsorted(pieces.start, tokens.end, side="left")
    count = np.where(is_space, 0, after - first)
    lost = np.flatnonzero((count <= 0) & ~is_space)
    if len(lost):
        first[lost] = _nearest(tokens[lost], pieces, first[lost], bounds[lost])
        count[lost] = 1
    return Alignment(first=first, count=count)


def _nearest(tokens: Spans, pieces: Spans, after: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(M,) the nearer of the pieces before and after each token; the one before if both are equally near.

    after: (M,) index of the first piece behind each token.
    bounds: (M, 2) as for `align`.
    """
    before = np.clip(after - 1, bounds[:, 0], bounds[:, 1] - 1)
    after = np.clip(after, bounds[:, 0], bounds[:, 1] - 1)
    is_before = np.abs(tokens.start - pieces.end[before]) <= np.abs(pieces.start[after] - tokens.end)
    return np.where(is_before, before, after)
