"""Split documents into windows of pieces that fit the encoder. Takes numbers of pieces, returns indices; pure numpy.

Windows of long documents overlap. Each keeps its half of an overlap, so that every piece has one vector, from the
window with more context around it.

Legend: W windows.
"""

from dataclasses import dataclass

import numpy as np

SPECIALS = 2  # [CLS] before and [SEP] after the pieces of every window


@dataclass(frozen=True)
class Windows:
    """Windows in text order; they index the pieces of all documents."""

    start: np.ndarray  # (W,) int64 first piece
    length: np.ndarray  # (W,) int64 how many pieces
    kept: np.ndarray  # (W + 1,) int64: window w keeps the vectors of pieces kept[w] to kept[w + 1]


def check_windows(window: int | None, stride: int | None) -> None:
    """Raise ValueError if window or stride is out of range for every model."""
    if window is not None and window <= SPECIALS:
        raise ValueError(
            f"window must be above {SPECIALS}, but got window={window}: [CLS] and [SEP] take {SPECIALS} of its tokens."
        )
    if stride is not None and stride < 1:
        raise ValueError(f"stride must be at least 1 piece, but got stride={stride}: windows would not move on.")
    if window is not None and stride is not None and stride > window - SPECIALS:
        raise ValueError(
            f"stride must not exceed window - {SPECIALS}, but got stride={stride} and window={window}: "
            f"pieces between windows would be skipped. Use stride={window - SPECIALS} for no overlap."
        )


def room_and_stride(window: int | None, stride: int | None, *, positions: int) -> tuple[int, int]:
    """Maximum pieces of a window, and maximum pieces from the start of one window to that of the next.

    window: tokens of a window, [CLS] and [SEP] included; None for all `positions` of the model.
    stride: the second result; None for the default share of the first.
    Raises ValueError if the window exceeds the model's positions.
    """
    if window is not None and window > positions:
        raise ValueError(
            f"window must not exceed the model's {positions} positions, but got window={window}: "
            f"positions beyond were never trained. Use window=null for all of them."
        )
    window = positions if window is None else window
    check_windows(window, stride)
    room = window - SPECIALS
    return room, stride or max(1, room * 8 // 9)


def cut_windows(counts: np.ndarray, *, room: int, stride: int) -> Windows:
    """Split documents into windows: as few as `stride` allows, about equally long within a document.

    Adjacent windows share exactly room - stride pieces: windows are shortened rather than their overlap enlarged.

    counts: (documents,) pieces of each document.
    room: maximum pieces of a window.
    stride: maximum pieces from the start of one window to that of the next.
    """
    offset = np.cumsum(counts) - counts
    filled = counts > 0
    count, offset = counts[filled].astype(np.int64), offset[filled].astype(np.int64)
    number = 1 + -(-np.maximum(count - room, 0) // stride)
    shared = np.where(number > 1, room - stride, 0)
    document = np.repeat(np.arange(len(count)), number)
    place = np.arange(len(document)) - np.repeat(np.cumsum(number) - number, number)
    start, end = ((place + step) * (count - shared)[document] // number[document] for step in (0, 1))
    length = end - start + shared[document]
    start += offset[document]
    middle = (start[:-1] + length[:-1] + start[1:] + 1) // 2  # between two documents: where the second begins
    kept = np.concatenate([[0], middle, [count.sum()]]).astype(np.int64)[: len(start) + 1]
    return Windows(start=start, length=length, kept=kept)
