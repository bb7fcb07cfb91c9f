"""Plan which pieces stand in which row: takes document ranges, returns segments. Made in one pass, kept as memory maps.

A row is filled from the left with segments `[CLS] pieces [SEP]`, documents in order. A document that does not fit
continues in the next row; the next document begins in the same row if at least MIN_SEGMENT tokens are left.

Legend: N ranges, S segments, R rows.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from spacy_electra.data.atomic import sha256_of, sync
from spacy_electra.data.checksums import read_checksums, write_checksums
from spacy_electra.data.store.mmap import give_back, map_array, read_at_random

logger = logging.getLogger(__name__)

MIN_SEGMENT = 16  # tokens; in fewer a document would begin with next to no context
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
_RANGES_AT_ONCE = 1 << 18
_VERSION = 1
PLAN_CHECKSUMS = "plan.sha256"
_ABANDONED_AFTER = 24 * 3600  # seconds without a change, of what a crash left unfinished
_COLUMNS = {"starts": "<i8", "lengths": "<i4", "first": "<i8"}

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class RowPlan:
    """The rows of an epoch in text order."""

    starts: np.ndarray  # (S,) place of a segment's first piece in the store
    lengths: np.ndarray  # (S,) its pieces, special ones not counted
    first: np.ndarray  # (R,) number of a row's first segment

    @property
    def rows(self) -> int:
        return len(self.first)

    def segments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First segment (B,) of each of the rows (B,) and how many it has (B,)."""
        first = self.first[rows]
        is_last = rows == self.rows - 1
        following = self.first[np.where(is_last, rows, rows + 1)]
        return first, np.where(is_last, len(self.starts), following) - first

    def read_at_random(self) -> None:
        """Advise the system that rows are read in random order."""
        read_at_random([self.starts, self.lengths, self.first])

    def give_back(self) -> None:
        """Release the memory of pages that were read."""
        give_back([self.starts, self.lengths, self.first])


def make_plan(ranges: np.ndarray, *, window: int, fingerprint: str, directory: Path | None) -> RowPlan:
    """Plan the rows for ranges of pieces, or map an earlier plan; a damaged one is made again, with a warning.

    ranges: (N, 2) start and stop of each document, in pieces.
    window: tokens a row.
    fingerprint: of the store.
    directory: where plans are kept; None, or a directory that cannot be written, keeps this plan in memory.
    """
    chunks = _chunks(ranges, window)
    if directory is None:
        return _in_memory(chunks)
    kept = directory / _key(ranges, window, fingerprint)
    try:
        if kept.exists() and (damage := _damage_of(kept)) is not None:
            logger.warning("the plan of the rows in %s is damaged and made again: %s", kept, damage)
            away = kept.rename(_partial_name(kept))  # an OSError where it cannot be replaced
            shutil.rmtree(away, ignore_errors=True)
        if not kept.exists():
            _write(chunks, kept)
        return RowPlan(**{name: map_array(kept / name, dtype) for name, dtype in _COLUMNS.items()})
    except OSError as fault:
        logger.info("The plan of the rows stays in memory: %s cannot be used (%s).", kept, fault)
        return _in_memory(_chunks(ranges, window))


def _chunks(ranges: np.ndarray, window: int) -> Iterator[Chunk]:
    """Columns of the plan for one run of ranges after another."""
    free, segments = 0, 0
    for begin in range(0, len(ranges), _RANGES_AT_ONCE):
        start, stop = np.asarray(ranges[begin : begin + _RANGES_AT_ONCE], dtype=np.int64).T
        has_text = stop > start
        start, length = start[has_text], (stop - start)[has_text]
        room, free = _rooms(length, window, free)
        starts, lengths, opens_row = _stretches(start, length, room, window)
        yield starts, lengths, np.flatnonzero(opens_row) + segments
        segments += len(starts)


def _rooms(lengths: np.ndarray, window: int, free: int) -> tuple[np.ndarray, int]:
    """Pieces that fit into the row in which each document (N,) begins, and the tokens left after the last one.

    The only step that goes document by document: where one begins depends on where the one before it ended.
    """
    full, least = window - SPECIAL_TOKENS, min(MIN_SEGMENT, window)
    rooms = []
    for length in lengths.tolist():
        if free < least:
            free = window
        room = free - SPECIAL_TOKENS
        rooms.append(room)
        free = room - length if length <= room else full - 1 - (length - room - 1) % full
    return np.array(rooms, dtype=np.int64), free


def _stretches(start: np.ndarray, length: np.ndarray, room: np.ndarray, window: int) -> Chunk:
    """Starts, lengths and whether it opens a row (S,) of the segments that documents (N,) are cut into."""
    full = window - SPECIAL_TOKENS
    count = 1 + -(-np.maximum(length - room, 0) // full)
    document = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(document)) - np.repeat(np.cumsum(count) - count, count)
    offset = np.where(number > 0, room[document] + (number - 1) * full, 0)
    most = np.where(number > 0, full, room[document])
    lengths = np.minimum(length[document] - offset, most)
    return start[document] + offset, lengths, (number > 0) | (room[document] == full)


def _in_memory(chunks: Iterator[Chunk]) -> RowPlan:
    columns = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    kept = zip(_COLUMNS.items(), columns, strict=True)
    return RowPlan(**{name: column.astype(dtype) for (name, dtype), column in kept})


def _write(chunks: Iterator[Chunk], kept: Path) -> None:
    """Write the columns chunk by chunk; another process may do the same at once, and the first one is kept."""
    partial = _partial_name(kept)
    partial.mkdir(parents=True)
    try:
        _remove_abandoned(kept.parent)
        with ExitStack() as stack:
            files = [stack.enter_context((partial / name).open("wb")) for name in _COLUMNS]
            for chunk in chunks:
                for file, column, dtype in zip(files, chunk, _COLUMNS.values(), strict=True):
                    file.write(column.astype(dtype).tobytes())
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        write_checksums(partial / PLAN_CHECKSUMS, list(_COLUMNS))
        sync(partial / PLAN_CHECKSUMS)
        if not kept.exists():
            partial.rename(kept)
    except OSError:
        if not kept.exists():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial_name(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.{uuid4().hex}.partial")


def _damage_of(kept: Path) -> str | None:
    """Which file is not what was written; None where all are."""
    expected = read_checksums(kept / PLAN_CHECKSUMS)
    for name in _COLUMNS:
        if not (kept / name).is_file() or sha256_of(kept / name) != expected.get(name):
            return f"{name} is missing or was changed"
    return None


def _remove_abandoned(directory: Path) -> None:
    for abandoned in directory.glob("*.partial"):
        with suppress(FileNotFoundError):  # another process has finished it
            if abandoned.stat().st_mtime < time.time() - _ABANDONED_AFTER:
                shutil.rmtree(abandoned, ignore_errors=True)


def _key(ranges: np.ndarray, window: int, fingerprint: str) -> str:
    """A name that another store, choice of documents, window or layout does not have."""
    answer = hashlib.sha256(f"{_VERSION} {fingerprint} {window} {MIN_SEGMENT}".encode())
    answer.update(np.ascontiguousarray(ranges, dtype="<i8").data)
    return answer.hexdigest()[:32]
