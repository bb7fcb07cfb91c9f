"""Lay windows out for the encoder on one flat axis of slots, in batches of bounded size.

What an encoder computes for each slot by itself, nearly all of its work, runs over a whole batch at once and without
padding. Attention pads groups of windows of similar length. Takes windows, gives index arrays; pure numpy.

Legend: N pieces of all documents in a row, S slots of all batches.
"""

from dataclasses import dataclass

import numpy as np

from spacy_electra.data.rows import Special
from spacy_electra.pipeline.windows import SPECIALS, cut_windows

OCTAVE = 16  # sizes of a batch between a power of two and the next: kernels are prepared anew for every size
SMALLEST = 8  # what the smallest batches are rounded up to; with fewer rows torch takes other kernels for products
WIDTHS = 8  # of attention between a power of two and the next, in steps of `SMALLEST` at least


@dataclass(frozen=True)
class Limits:
    """What bounds a batch and a group."""

    max_slots: int  # of a batch, padding included; a window too long for that stands alone
    group_cost: int  # slots of padding over which attention takes as long as over one more group


@dataclass(frozen=True)
class Group:
    """Windows that attention pads to one width."""

    width: int
    lengths: np.ndarray  # (windows,) int64 slots, [CLS] and [SEP] included

    @property
    def slots(self) -> int:
        return int(self.lengths.sum())

    @property
    def is_even(self) -> bool:
        return self.slots == len(self.lengths) * self.width

    @property
    def filled(self) -> np.ndarray:
        """(slots,) int64 place of each slot in windows x width."""
        return np.flatnonzero(np.arange(self.width) < self.lengths[:, None])

    @property
    def padded(self) -> np.ndarray:
        """(windows x width,) int64 slot at each place, the last of its window behind the end."""
        end = np.cumsum(self.lengths)[:, None]
        places: np.ndarray = np.minimum(end - self.lengths[:, None] + np.arange(self.width), end - 1)
        return places.ravel()


@dataclass(frozen=True)
class Batch:
    """Groups one after another, and spare slots that make up a round number."""

    groups: list[Group]
    slots: int


@dataclass(frozen=True)
class Layout:
    """What the encoder reads, and where in its answer each piece is found."""

    ids: np.ndarray  # (S,) int64
    positions: np.ndarray  # (S,) int64 in the window
    source: np.ndarray  # (N,) int64 slot of each piece
    batches: list[Batch]  # one after another on the axis of slots


def lay_out(ids: np.ndarray, counts: np.ndarray, special: Special, *, room: int, stride: int, limits: Limits) -> Layout:
    """Windows and batches for documents of `counts` pieces that stand in `ids` (N,) one after another."""
    windows = cut_windows(counts, room=room, stride=stride)
    first_slot = np.zeros(len(windows.start), dtype=np.int64)  # where each window begins
    batches, filled, places, used = [], [], [], 0
    for members in group_windows(windows.length, limits):
        groups, begin = [], used
        for group in members:
            length = windows.length[group] + SPECIALS
            groups.append(Group(width=attention_width(int(length.max())), lengths=length))
            first_slot[group] = used + np.cumsum(length) - length
            used += groups[-1].slots
        which = np.concatenate(members)
        slots = rounded(used - begin, most=limits.max_slots)
        batch_ids, batch_places = _fill(ids, windows.start[which], windows.length[which], special)
        spare = np.zeros(slots - len(batch_ids), dtype=np.int64)
        filled += [batch_ids, spare + special.pad]
        places += [batch_places, spare]
        used = begin + slots
        batches.append(Batch(groups=groups, slots=slots))
    shift = first_slot + 1 - windows.start
    return Layout(
        ids=_joined(filled),
        positions=_joined(places),
        source=np.repeat(shift, np.diff(windows.kept)) + np.arange(len(ids)),
        batches=batches,
    )


def group_windows(length: np.ndarray, limits: Limits) -> list[list[np.ndarray]]:
    """Batches of groups of windows of `length` (W,) pieces, the longest first; the numbers of each group's windows."""
    order = np.argsort(-length, kind="stable")
    answer: list[list[np.ndarray]] = []
    begin = used = padding = width = 0  # of the group that is open: its first place; slots before it in its batch
    for place, slots in enumerate((length[order] + SPECIALS).tolist()):
        size = attention_width(slots)
        if place == 0:
            answer, width = [[]], size
        elif padding + width - size > limits.group_cost:
            answer[-1].append(order[begin:place])
            used += (place - begin) * width
            begin, width, padding = place, size, 0
        if used + (place - begin + 1) * width > limits.max_slots and place > 0 and (used or place > begin):
            if place > begin:
                answer[-1].append(order[begin:place])
            answer.append([])
            begin, width, padding, used = place, size, 0, 0
        padding += width - size
    if answer:
        answer[-1].append(order[begin:])
    return answer


def attention_width(slots: int) -> int:
    """The least width that attention pads a window of so many slots to.

    torch adds up a row's products in an order that follows from its width. Where groups hold windows of one such width
    alone, that order is the same whatever else is in a batch.
    """
    step = max(SMALLEST, (1 << slots.bit_length() - 1) // WIDTHS)
    return -(-slots // step) * step


def rounded(slots: int, *, most: int) -> int:
    """A size for a batch of so many slots: the next of few, but not above `most` for the sake of that."""
    step = max(SMALLEST, (1 << slots.bit_length() - 1) // OCTAVE)
    return min(-(-slots // step) * step, max(slots, most))


def _fill(ids: np.ndarray, start: np.ndarray, length: np.ndarray, special: Special) -> tuple[np.ndarray, np.ndarray]:
    """[CLS], the pieces and [SEP] of windows one after another, and the place of each in its window."""
    slots = length + SPECIALS
    end = np.cumsum(slots)
    place = np.arange(end[-1]) - np.repeat(end - slots, slots)
    filled = ids[np.clip(np.repeat(start, slots) + place - 1, 0, len(ids) - 1)]
    filled[end - slots] = special.cls
    filled[end - 1] = special.sep
    return filled, place


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
