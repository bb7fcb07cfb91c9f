"""Cut documents into windows of pieces that the encoder can read, and say where each piece's vector will stand.

Long documents get overlapping windows; of every overlap each window keeps its half, so that every piece has one vector,
from the window that shows more of its surroundings. Takes pieces, gives index arrays; pure numpy.

Legend: N pieces of all documents in a row, W windows, B windows of a batch, T slots of a window with [CLS] and [SEP].
"""

from dataclasses import dataclass

import numpy as np

from spacy_electra.data.rows import Special

SPECIALS = 2  # [CLS] before and [SEP] after the pieces of every window
BATCH_COST = 64  # slots of padding that are cheaper than one more batch


@dataclass(frozen=True)
class Windows:
    """Windows in the order of the text, on the axis of all pieces."""

    start: np.ndarray  # (W,) int64 first piece
    length: np.ndarray  # (W,) int64 how many pieces
    kept: np.ndarray  # (W + 1,) int64: window w keeps the vectors of pieces kept[w] to kept[w + 1]


@dataclass(frozen=True)
class WindowBatch:
    """Windows of similar length, padded to the longest."""

    ids: np.ndarray  # (B, T) int64
    lengths: np.ndarray  # (B,) int64 slots in use, [CLS] and [SEP] included


@dataclass(frozen=True)
class Layout:
    """What the encoder reads, and where in its answer each piece is found."""

    batches: list[WindowBatch]
    source: np.ndarray  # (N,) int64 slot of each piece, counted through all batches


def check_windows(window: int | None, stride: int | None) -> None:
    """Raise ValueError for settings that no model could follow."""
    if window is not None and window <= SPECIALS:
        raise ValueError(
            f"window must be above {SPECIALS}, but got window={window}: [CLS] and [SEP] take {SPECIALS} of its slots."
        )
    if stride is not None and stride < 1:
        raise ValueError(f"stride must be at least 1 piece, but got stride={stride}: windows would not move on.")
    if window is not None and stride is not None and stride > window - SPECIALS:
        raise ValueError(
            f"stride must not exceed window - {SPECIALS}, but got stride={stride} and window={window}: "
            f"pieces between windows would be skipped. Use stride={window - SPECIALS} for no overlap."
        )


def room_and_stride(window: int | None, stride: int | None, *, positions: int) -> tuple[int, int]:
    """Pieces that fit a window, and the most pieces from the start of one window to that of the next.

    window: slots of a window, None for all `positions` of the model. stride: None for seven eighths of the room.
    Raises ValueError for windows beyond the positions that the model has.
    """
    if window is not None and window > positions:
        raise ValueError(
            f"window must not exceed the model's {positions} positions, but got window={window}: "
            f"positions beyond were never trained. Use window=null for all of them."
        )
    window = positions if window is None else window
    check_windows(window, stride)
    room = window - SPECIALS
    return room, stride or max(1, room * 7 // 8)


def cut_windows(counts: np.ndarray, *, room: int, stride: int) -> Windows:
    """Lay windows over documents of `counts` (documents,) pieces, as few as `stride` allows and evenly spread."""
    offset = np.cumsum(counts) - counts
    filled = counts > 0
    count, offset = counts[filled].astype(np.int64), offset[filled].astype(np.int64)
    spare = np.maximum(count - room, 0)
    number = 1 + -(-spare // stride)
    document = np.repeat(np.arange(len(count)), number)
    place = np.arange(len(document)) - np.repeat(np.cumsum(number) - number, number)
    start = offset[document] + place * spare[document] // np.maximum(number - 1, 1)[document]
    length = np.minimum(count, room)[document]
    middle = (start[:-1] + length[:-1] + start[1:] + 1) // 2  # between two documents: where the second begins
    kept = np.concatenate([[0], middle, [count.sum()]]).astype(np.int64)[: len(start) + 1]
    return Windows(start=start, length=length, kept=kept)


def batch_windows(length: np.ndarray, *, max_slots: int) -> list[np.ndarray]:
    """Group windows of `length` (W,) pieces by length, the longest first; the numbers of each batch's windows.

    A batch ends where it would take more than `max_slots` slots, padding included (a window too long for that stands
    alone), or where padding the next window would cost more than beginning another batch.
    """
    order = np.argsort(-length, kind="stable")
    slots = (length[order] + SPECIALS).tolist()
    edges = [0]
    longest = padding = 0
    for place, size in enumerate(slots):
        padding += longest - size
        if place > edges[-1] and ((place - edges[-1] + 1) * longest > max_slots or padding > BATCH_COST):
            edges.append(place)
        if place == edges[-1]:
            longest, padding = size, 0
    return np.split(order, edges[1:]) if slots else []


def lay_out(ids: np.ndarray, counts: np.ndarray, special: Special, *, room: int, stride: int, max_slots: int) -> Layout:
    """Windows and batches for documents of `counts` pieces that stand in `ids` (N,) one after another."""
    windows = cut_windows(counts, room=room, stride=stride)
    batches, first_slot = [], np.zeros(len(windows.start), dtype=np.int64)  # the slot where each window begins
    used = 0
    for members in batch_windows(windows.length, max_slots=max_slots):
        batch = _fill(ids, windows.start[members], windows.length[members], special)
        width = batch.ids.shape[1]
        first_slot[members] = used + np.arange(len(members)) * width
        used += batch.ids.size
        batches.append(batch)
    shift = first_slot + 1 - windows.start
    return Layout(batches=batches, source=np.repeat(shift, np.diff(windows.kept)) + np.arange(len(ids)))


def _fill(ids: np.ndarray, start: np.ndarray, length: np.ndarray, special: Special) -> WindowBatch:
    """[CLS], the pieces, [SEP] and padding for windows of one batch."""
    place = np.arange(int(length.max()))
    real = place < length[:, None]
    filled = np.full((len(start), len(place) + SPECIALS), special.pad, dtype=np.int64)
    filled[:, 0] = special.cls
    filled[:, 1:-1][real] = ids[(start[:, None] + place)[real]]
    filled[np.arange(len(start)), length + 1] = special.sep
    return WindowBatch(ids=filled, lengths=length + SPECIALS)
