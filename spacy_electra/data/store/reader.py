"""Read the tokenized corpus: one long memory-mapped axis of pieces. Takes a directory, returns pieces.

`writer.py` writes it, `manifest.py` describes its files. Nothing is held in memory for the whole corpus.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from spacy_electra.data.atomic import alone_in, sha256_of
from spacy_electra.data.store.aside import is_out_of_sight, put_back
from spacy_electra.data.store.manifest import BUILDING, MANIFEST, PARTS, REPLACED, STARTS, TOKENIZER, Manifest, Shard
from spacy_electra.data.store.mmap import give_back, map_array, read_at_random
from spacy_electra.data.tokenizer.difference import check_tokenizer_of_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

_SAMPLE = 1_000_000  # pieces in which the unknown ones are counted where no build has done so


class Store:
    """A finished store, read through memory maps. A piece's place is its number among the pieces of all documents."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self.starts = _map_starts(directory / STARTS, manifest)  # (documents + 1,) int64
        self._shards = [_map_shard(directory / shard.name, shard, manifest.dtype) for shard in manifest.shards]
        self._bounds = np.cumsum([0] + [shard.pieces for shard in manifest.shards])  # (shards + 1,)

    @classmethod
    def open(cls, directory: Path | str, *, tokenizer: WordPiece | None = None) -> "Store":
        """Map the store in `directory`; checks sizes, while `verify` checks contents.

        If a build was killed before it finished a shard, the store that it was to replace is opened.

        tokenizer: the vocabulary that the store must have been made with; None for any.
        Raises FileNotFoundError for a directory without a finished store or without one of its files, ValueError for a
        damaged file or another vocabulary.
        """
        directory = Path(directory)
        path = directory / MANIFEST
        if is_out_of_sight(directory):
            with alone_in(directory):
                put_back(directory)
        if not path.exists():
            raise FileNotFoundError(f"{directory} holds no finished store: {MANIFEST} is missing. {_why(directory)}")
        manifest = Manifest.read(path)
        if tokenizer is not None:
            check_tokenizer_of_store(manifest.tokenizer, tokenizer, directory)
        return cls(directory, manifest)

    @property
    def documents(self) -> int:
        return self.manifest.documents

    @property
    def pieces(self) -> int:
        return self.manifest.pieces

    @property
    def fingerprint(self) -> str:
        """sha256 hex of text and vocabulary."""
        return self.manifest.fingerprint

    def document_lengths(self) -> np.ndarray:
        """(documents,) int64 number of pieces of each document."""
        lengths: np.ndarray = np.diff(self.starts)
        return lengths

    def read(self, start: int, stop: int) -> np.ndarray:
        """Pieces number start..stop-1, (stop - start,) int64. Raises IndexError outside the store."""
        if not 0 <= start <= stop <= self.pieces:
            raise IndexError(f"pieces {start} to {stop} asked of {self.directory}, which holds {self.pieces}")
        return self.gather(np.arange(start, stop))

    def gather(self, places: np.ndarray) -> np.ndarray:
        """The pieces (N,) int64 at the places (N,) int64."""
        answer = np.empty(len(places), dtype=np.int64)
        shard_of = np.searchsorted(self._bounds, places, side="right") - 1
        for number in np.unique(shard_of):
            here = shard_of == number
            answer[here] = self._shards[number][places[here] - self._bounds[number]]
        return answer

    def each_document(self) -> Iterator[np.ndarray]:
        """Yield the pieces (N,) of each document, in order."""
        first = 0
        for pieces, shard, base in zip(self._shards, self.manifest.shards, self._bounds, strict=False):
            bounds = (self.starts[first : first + shard.documents + 1] - base).tolist()
            for start, stop in pairwise(bounds):
                yield pieces[start:stop]
            first += shard.documents

    def read_at_random(self) -> None:
        """Advise the system that pieces are read in random order from now on."""
        read_at_random(self._shards)

    def give_back(self) -> None:
        """Release the memory of pages that were read."""
        give_back([self.starts, *self._shards])

    def load_tokenizer(self) -> WordPiece:
        """The vocabulary that made the pieces. Raises ValueError if the copy in the store was changed."""
        tokenizer = WordPiece.load(self.directory / TOKENIZER)
        if tokenizer.fingerprint != self.manifest.tokenizer:
            raise ValueError(
                f"{self.directory / TOKENIZER} was changed: the store's pieces were made with another vocabulary. Copy "
                "the store again, or build it again."
            )
        return tokenizer

    def unknown_share(self) -> float:
        """Share of [UNK] among the pieces; among the first million if the build did not count them."""
        unknown, pieces = self.manifest.unknown, self.pieces
        if unknown is None:
            pieces = min(_SAMPLE, pieces)
            unknown = int(np.count_nonzero(self.read(0, pieces) == self.manifest.special.unk))
        return unknown / max(pieces, 1)

    def verify(self) -> None:
        """Read every byte. Raises ValueError that names the first file that differs from what the build wrote."""
        written = [(shard.name, shard.sha256) for shard in self.manifest.shards]
        for name, expected in [*written, (STARTS, self.manifest.starts_sha256)]:
            path = self.directory / name
            found = sha256_of(path)
            if found != expected:
                raise ValueError(f"{path} was changed: its sha256 is {found}, expected {expected}. Build it again.")


def _why(directory: Path) -> str:
    """Why there is no finished store, and what to do."""
    if (directory / BUILDING).exists():
        old = f" The store that it will replace is in {directory / REPLACED}." * (directory / REPLACED).exists()
        return f"Its build was interrupted; run it again, it goes on where it was.{old}"
    if (directory / PARTS).is_dir():
        return "Its parts were not joined; run tokenize with --merge when all jobs have ended."
    return "Build it with `python -m spacy electra tokenize`."


def _map_starts(path: Path, manifest: Manifest) -> np.ndarray:
    try:
        starts: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError) as fault:
        raise _damaged(path, str(fault)) from fault
    if starts.shape != (manifest.documents + 1,) or starts[-1] != manifest.pieces:
        raise _damaged(path, f"shape {starts.shape} for {manifest.documents} documents")
    return starts


def _map_shard(path: Path, shard: Shard, dtype: str) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing from its store. Copy it there, or build the store again.")
    expected = shard.pieces * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        raise _damaged(path, f"{path.stat().st_size} bytes, expected {expected}")
    if expected == 0:
        return np.empty(0, dtype=dtype)
    return map_array(path, dtype)


def _damaged(path: Path, how: str) -> ValueError:
    return ValueError(f"{path} was truncated or changed: {how}. Copy it again, or build the store again.")
