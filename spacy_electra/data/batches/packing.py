"""Pack documents into rows: takes a store and ranges of its pieces, returns batches in an endless shuffled order.

The place in the data is one number, the global row; everything else follows from it and the seed.

Legend: B rows, T tokens a row, S segments of the batch, P pieces of the batch.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.plan import SPECIAL_TOKENS, make_plan
from spacy_electra.data.batches.shuffle import order_keys, shuffled
from spacy_electra.data.rng import row_keys
from spacy_electra.data.store.manifest import PLANS
from spacy_electra.data.store.reader import Store

logger = logging.getLogger(__name__)

MIN_WINDOW = 8
_DEV_MOST, _DEV_LEAST = 500, 10  # documents
_MOST_HELD_OUT = 0.25  # of the pieces
_SHORT = 16  # pieces of a document that is never cut beside others
_STRETCH = 512  # pieces
_SEGMENTS_HELD = 4096  # read before memory is given back, at 64 KiB each at most
_BEFORE_THE_FIRST = -1  # the epoch whose order chooses the dev documents


@dataclass(frozen=True)
class Split:
    """Ranges of pieces, in the order of the store."""

    train: np.ndarray  # (N, 2) int64 start and stop of each document
    dev: np.ndarray  # (M, 2) int64, disjoint from train


def split_documents(store: Store, *, seed: int) -> Split:
    """Hold out one document in a hundred, chosen by the seed: 10 to 500, at most one in ten, and at least one.

    If these hold more than a quarter of all pieces, documents of more than a hundredth of the pieces are first cut into
    segments that count as documents, with a warning.

    seed: of the choice.
    Raises ValueError if there is too little text even for that.
    """
    ranges = np.stack([store.starts[:-1], store.starts[1:]], axis=1)
    ranges = ranges[ranges[:, 1] > ranges[:, 0]]
    split = _choose(ranges, seed)
    if _pieces(split.dev) > store.pieces * _MOST_HELD_OUT:
        logger.warning(
            "%s holds %s: its dev set has segments of %s, so dev scores flatter the model. Give the corpus as many "
            "documents, or name another corpus as dev.",
            store.directory,
            *(("one document", "it") if len(ranges) == 1 else ("few documents that are long", "them")),
        )
        least = 0 if len(ranges) == 1 else max(_SHORT, store.pieces // 100)
        is_long = ranges[:, 1] - ranges[:, 0] > least
        parts = np.concatenate([ranges[~is_long], *(_cut(start, stop) for start, stop in ranges[is_long].tolist())])
        split = _choose(parts[parts[:, 0].argsort()], seed)
    if not len(split.train) or not len(split.dev):
        raise ValueError(f"{store.directory} holds {store.pieces} pieces in all, too few to hold some out as dev.")
    return split


def _choose(ranges: np.ndarray, seed: int) -> Split:
    total = len(ranges)
    count = min(_DEV_MOST, max(total // 100, min(_DEV_LEAST, max(1, total // 10))))
    epoch = torch.full((count,), _BEFORE_THE_FIRST, dtype=torch.int64, device="cpu")
    chosen = shuffled(torch.arange(count, device="cpu"), total, keys=order_keys(seed, epoch=epoch)).numpy()
    is_dev = np.zeros(total, dtype=bool)
    is_dev[chosen] = True
    return Split(train=ranges[~is_dev], dev=ranges[is_dev])


def _pieces(ranges: np.ndarray) -> int:
    return int((ranges[:, 1] - ranges[:, 0]).sum())


def _cut(start: int, stop: int) -> np.ndarray:
    """Ranges (N, 2) of a paragraph's length that cover start..stop."""
    size = max(1, min(_STRETCH, (stop - start) // 10))
    edges = np.append(np.arange(start, stop, size), stop)
    return np.stack([edges[:-1], edges[1:]], axis=1)


class Packing:
    """Endless rows of `window` tokens from documents of a store, shuffled anew each epoch."""

    def __init__(self, store: Store, ranges: np.ndarray, *, window: int, seed: int) -> None:
        """ranges: (N, 2) int64 start and stop of each document, as in `Split`; empty ones are left out.
        window: tokens a row.
        seed: of the order and of the random keys.

        The plan of the rows is kept beside the store if that is writable.
        Raises ValueError for a window below MIN_WINDOW, for ranges outside the store, and if no range holds a piece.
        """
        if window < MIN_WINDOW:
            raise ValueError(f"window must be at least {MIN_WINDOW} tokens, but got {window}: no text fits into less.")
        _check_ranges(store, ranges)
        self._store = store
        self._plan = make_plan(ranges, window=window, fingerprint=store.fingerprint, directory=store.directory / PLANS)
        self.window = window
        self.seed = seed
        self.rows = self._plan.rows  # in an epoch
        self._read = 0  # segments, since memory was given back
        self._is_read_at_random = False  # until the first batch: starting weights read a store from its beginning
        self.epoch_pieces = _pieces(ranges)  # of text, [CLS] and [SEP] not counted

    def batch(self, first_row: int, count: int) -> Rows:
        """Rows first_row..first_row+count-1 of the endless sequence (B = count); each epoch has every row once.

        Rows.keys come from the seed, the epoch and the row's number in the plan.
        """
        check_batch(first_row, count)
        if not self._is_read_at_random:
            self._store.read_at_random()
            self._plan.read_at_random()
            self._is_read_at_random = True
        run = torch.arange(first_row, first_row + count, device="cpu")
        epoch = run // self.rows
        row = shuffled(run % self.rows, self.rows, keys=order_keys(self.seed, epoch=epoch))
        return self._fill(row.numpy(), row_keys(self.seed, epoch=epoch, row=row))

    def _fill(self, row: np.ndarray, keys: Tensor) -> Rows:
        """The rows (B,) of the plan as arrays over all tokens B * T, filled segment by segment."""
        special = self._store.manifest.special
        first, count = self._plan.segments(row)
        self._give_back_after(int(count.sum()))
        number = _counted(count)  # (S,) of the segment in its row
        segment = np.repeat(first, count) + number
        start, length = self._plan.starts[segment], self._plan.lengths[segment].astype(np.int64)
        begin = _begins(np.repeat(np.arange(len(row)), count), number, length + SPECIAL_TOKENS, self.window)
        ids = np.full(len(row) * self.window, special.pad)
        positions, segments = np.zeros_like(ids), np.zeros_like(ids)
        piece = _counted(length)  # (P,) of the piece in its segment
        ids[np.repeat(begin + 1, length) + piece] = self._store.gather(np.repeat(start, length) + piece)
        ids[begin] = special.cls
        ids[begin + length + 1] = special.sep
        place_in_segment = _counted(length + SPECIAL_TOKENS)
        place = np.repeat(begin, length + SPECIAL_TOKENS) + place_in_segment
        positions[place] = place_in_segment
        segments[place] = np.repeat(number + 1, length + SPECIAL_TOKENS)
        return Rows(
            ids=self._table(ids),
            types=self._table(np.zeros_like(ids)),
            segments=self._table(segments),
            positions=self._table(positions),
            keys=keys,
            is_one_segment=bool((length == self.window - SPECIAL_TOKENS).all()),
        )

    def _give_back_after(self, segments: int) -> None:
        """Each segment lies somewhere else in the files, and brings the pages around it."""
        self._read += segments
        if self._read >= _SEGMENTS_HELD:
            self._store.give_back()
            self._plan.give_back()
            self._read = 0

    def _table(self, flat: np.ndarray) -> Tensor:
        """(B * T,) as (B, T)."""
        return torch.from_numpy(flat).view(-1, self.window)


def check_batch(first_row: int, count: int) -> None:
    """Raise ValueError for a negative first row or an empty batch."""
    if first_row < 0 or count < 1:
        raise ValueError(f"a batch begins at row 0 or later and has a row, but got first_row={first_row}, {count=}")


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0..n-1 for each n of lengths, one after the other."""
    before: np.ndarray = np.cumsum(lengths) - lengths
    answer: np.ndarray = np.arange(lengths.sum()) - np.repeat(before, lengths)
    return answer


def _begins(row: np.ndarray, number: np.ndarray, tokens: np.ndarray, window: int) -> np.ndarray:
    """(S,) the position, counted over all rows, of each segment's [CLS]: segments follow each other from the left."""
    before: np.ndarray = np.cumsum(tokens) - tokens
    answer: np.ndarray = row * window + before - before[number == 0][row]
    return answer


def _check_ranges(store: Store, ranges: np.ndarray) -> None:
    if ranges.ndim != 2 or ranges.shape[1] != 2 or not np.issubdtype(ranges.dtype, np.integer):
        raise ValueError(f"ranges must be (N, 2) whole numbers, but got {ranges.dtype} of shape {ranges.shape}.")
    start, stop = ranges.T
    if not (stop > start).any():
        raise ValueError(f"there is nothing to pack: none of the {len(ranges)} ranges has a piece.")
    if (start < 0).any() or (stop < start).any() or (stop > store.pieces).any():
        raise ValueError(f"ranges must lie within the {store.pieces} pieces of {store.directory}, start before stop.")
