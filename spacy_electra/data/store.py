"""The tokenised corpus on disk: takes documents and a vocabulary, gives one long memory-mapped axis of pieces.

`build_store` writes, `Store` reads; `shards.py` says which files there are. Nothing here is held in memory for the
whole corpus: pieces and document starts go to disk shard by shard and are mapped when read.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np

from spacy_electra.data.corpus import Document
from spacy_electra.data.shards import (
    BUILDING,
    BUILDING_ONLY,
    MANIFEST,
    PLANS,
    STARTS,
    STORE_FILES,
    TOKENIZER,
    Manifest,
    Shard,
    ShardWriter,
    TextFingerprint,
    is_whole,
    join_starts,
    remove_files,
    sha256_of,
)
from spacy_electra.data.tokenizing import Progress, tokenized
from spacy_electra.data.wordpiece import WordPiece

SHARD_PIECES = 1 << 26  # 128 MiB on disk at two bytes a piece; an interrupted build repeats at most one shard


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
        """Map the store in `directory`; sizes are checked here, contents by `verify`.

        tokenizer: the vocabulary that the store must have been made with, where that matters to the caller.
        Raises FileNotFoundError for a directory without a finished store or without one of its files, and ValueError
        for a damaged file or another vocabulary.
        """
        directory = Path(directory)
        path = directory / MANIFEST
        if not path.exists():
            begun = (directory / BUILDING).exists()
            why = "its build was interrupted; run it again, it goes on where it was" if begun else "build it first"
            raise FileNotFoundError(f"{directory} holds no finished store: {MANIFEST} is missing ({why}).")
        manifest = Manifest.read(path)
        if tokenizer is not None:
            manifest.check_vocabulary(tokenizer.fingerprint, directory)
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
        """(documents,) int64 pieces in each document."""
        lengths: np.ndarray = np.diff(self.starts)
        return lengths

    def read(self, start: int, stop: int) -> np.ndarray:
        """Pieces number start..stop-1, (stop - start,) int64; IndexError outside the store."""
        if not 0 <= start <= stop <= self.pieces:
            raise IndexError(f"pieces {start} to {stop} asked of {self.directory}, which holds {self.pieces}")
        return self.gather(np.arange(start, stop))

    def gather(self, places: np.ndarray) -> np.ndarray:
        """The pieces (N,) int64 at any places (N,) int64."""
        answer = np.empty(len(places), dtype=np.int64)
        shard_of = np.searchsorted(self._bounds, places, side="right") - 1
        for number in np.unique(shard_of):
            here = shard_of == number
            answer[here] = self._shards[number][places[here] - self._bounds[number]]
        return answer

    def load_tokenizer(self) -> WordPiece:
        """The vocabulary that made the pieces; ValueError where the copy in the store was changed."""
        tokenizer = WordPiece.load(self.directory / TOKENIZER)
        self.manifest.check_vocabulary(tokenizer.fingerprint, self.directory)
        return tokenizer

    def verify(self) -> None:
        """Read every byte; ValueError names the first file that is not what the build wrote."""
        written = [(shard.name, shard.sha256) for shard in self.manifest.shards]
        for name, expected in [*written, (STARTS, self.manifest.starts_sha256)]:
            path = self.directory / name
            found = sha256_of(path)
            if found != expected:
                raise ValueError(f"{path} was changed: its sha256 is {found}, expected {expected}. Build it again.")


def build_store(
    documents: Iterator[Document],
    tokenizer: WordPiece,
    out_dir: Path | str,
    *,
    shard_pieces: int = SHARD_PIECES,
    processes: int = 1,
    progress: Progress | None = None,
    skipped: Mapping[str, int] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Tokenise `documents` into a store, or finish the one that an interrupted build left in `out_dir`.

    shard_pieces: a shard ends with the document that brings it to this many pieces.
    processes: 1 uses the threads of the tokenizers library, more start processes of one thread each.
    progress: called with the number of documents and of pieces that are done since the last call.
    skipped: the reader's live counts of what it left out, by reason; read when `documents` ends.
    overwrite: replace the store that is there, whatever it holds.
    Returns what was written, the same bytes for the same input however often the build was interrupted.
    Raises ValueError where `out_dir` holds a store of another corpus or vocabulary, and where there is no text.
    """
    if shard_pieces < 1 or processes < 1:
        raise ValueError(f"shard_pieces and processes must be at least 1, but got {shard_pieces} and {processes}.")
    directory = Path(out_dir)
    directory.mkdir(parents=True, exist_ok=True)
    if overwrite:
        remove_files(directory, STORE_FILES)
        shutil.rmtree(directory / PLANS, ignore_errors=True)
    dtype = "<u2" if tokenizer.size <= 1 << 16 else "<u4"
    fresh = Manifest(dtype, tokenizer.size, tokenizer.special, tokenizer.fingerprint, shard_pieces)
    manifest = _left_by_earlier_build(directory, fresh)
    text = TextFingerprint()
    documents = iter(documents)
    _pass_over(documents, directory, manifest, text, progress)
    if (directory / MANIFEST).exists():
        if next(documents, None) is not None:
            raise _another_corpus(directory, f"the corpus given has more than its {manifest.documents} documents")
        return manifest
    tokenizer.save(directory / TOKENIZER)
    with closing(tokenized(documents, tokenizer, processes=processes, progress=progress)) as pairs:
        for shard in _write_shards(pairs, directory, manifest, text):
            manifest = replace(manifest, shards=(*manifest.shards, shard))
            manifest.write(directory / BUILDING)
    return _finish(directory, replace(manifest, skipped=dict(skipped or {})))


def _left_by_earlier_build(directory: Path, fresh: Manifest) -> Manifest:
    """The manifest of a finished store, or of the whole shards of a build under way; else `fresh`."""
    is_finished = (directory / MANIFEST).exists()
    path = directory / (MANIFEST if is_finished else BUILDING)
    if not path.exists():
        return fresh
    found = Manifest.read(path)
    found.check_vocabulary(fresh.tokenizer, directory)
    if is_finished:
        return Store(directory, found).manifest
    if found.shard_pieces != fresh.shard_pieces:
        raise ValueError(
            f"{directory} holds an interrupted build with shard_pieces={found.shard_pieces}, but got "
            f"{fresh.shard_pieces}. Go on with {found.shard_pieces}, or start again with overwrite=True."
        )
    return replace(found, shards=tuple(takewhile(lambda shard: is_whole(directory, found, shard), found.shards)))


def _pass_over(
    documents: Iterator[Document], directory: Path, manifest: Manifest, text: TextFingerprint, progress: Progress | None
) -> None:
    """Read the documents that the store has already; ValueError where they are others."""
    for shard in manifest.shards:
        for document in islice(documents, shard.documents):
            text.add(document.text)
        if text.value != shard.text:
            raise _another_corpus(directory, f"{shard.name} was made from text that the corpus given does not have")
        if progress is not None:
            progress(shard.documents, shard.pieces)


def _another_corpus(directory: Path, how: str) -> ValueError:
    return ValueError(
        f"{directory} holds a store of another corpus: {how}. "
        f"Give another directory, or replace the store with overwrite=True."
    )


def _write_shards(
    pairs: Iterator[tuple[Document, np.ndarray]], directory: Path, manifest: Manifest, text: TextFingerprint
) -> Iterator[Shard]:
    """Write documents and their pieces from where `manifest` ends; each shard as it is whole."""
    number, first_piece = len(manifest.shards), manifest.pieces
    for first in pairs:
        with ShardWriter(directory, number=number, dtype=manifest.dtype, first_piece=first_piece) as writer:
            for document, ids in chain([first], pairs):
                writer.add(ids)
                text.add(document.text)
                if writer.pieces >= manifest.shard_pieces:
                    break
            shard = writer.close(text=text.value)
        yield shard
        number, first_piece = number + 1, first_piece + shard.pieces


def _finish(directory: Path, manifest: Manifest) -> Manifest:
    """Join the document starts, write the manifest, and remove what only the build needed."""
    if manifest.pieces == 0:
        raise ValueError(
            f"the corpus for {directory} has no text: {manifest.documents} documents without a piece, "
            f"{sum(manifest.skipped.values())} left out by the reader {dict(manifest.skipped)}."
        )
    manifest = replace(manifest, starts_sha256=join_starts(directory, manifest))
    manifest.write(directory / MANIFEST)
    remove_files(directory, BUILDING_ONLY)
    return manifest


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
    """(pieces,) as a plain array over the map: slicing a np.memmap costs ten times as much."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing from its store. Copy it there, or build the store again.")
    expected = shard.pieces * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        raise _damaged(path, f"{path.stat().st_size} bytes, expected {expected}")
    if expected == 0:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _damaged(path: Path, how: str) -> ValueError:
    return ValueError(f"{path} was truncated or changed: {how}. Copy it again, or build the store again.")
