"""Which pieces belong to which token, by array operations. Takes character offsets, gives ranges; pure numpy.

Documents stand one after another on one axis of characters, of tokens and of pieces.

Legend: M tokens, N pieces.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spans:
    """Where tokens or pieces stand in the text; starts and ends never go back."""

    start: np.ndarray  # (M or N,) int64 first character
    end: np.ndarray  # (M or N,) int64 character after the last

    def __getitem__(self, which: np.ndarray) -> "Spans":
        return Spans(start=self.start[which], end=self.end[which])


@dataclass(frozen=True)
class Alignment:
    """A range of pieces for each token; white space has none."""

    first: np.ndarray  # (M,) int64
    count: np.ndarray  # (M,) int64

    @property
    def flat(self) -> np.ndarray:
        """(count.sum(),) the pieces of each token, one token after another."""
        before = np.cumsum(self.count) - self.count
        return np.repeat(self.first - before, self.count) + np.arange(int(self.count.sum()))


def align(tokens: Spans, pieces: Spans, *, is_space: np.ndarray, bounds: np.ndarray) -> Alignment:
    """Give every token the pieces that overlap its characters, and a token without any the nearest of its document.

    is_space: (M,) bool, tokens that get no piece. bounds: (M, 2) the first piece of the token's document and the one
    after its last; every document with tokens has a piece.
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
    """The piece before or after each token, whichever is nearer; the one before where both are as near."""
    before = np.clip(after - 1, bounds[:, 0], bounds[:, 1] - 1)
    after = np.clip(after, bounds[:, 0], bounds[:, 1] - 1)
    is_before = np.abs(tokens.start - pieces.end[before]) <= np.abs(pieces.start[after] - tokens.end)
    return np.where(is_before, before, after)
