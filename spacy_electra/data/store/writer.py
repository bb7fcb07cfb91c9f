"""Write the tokenized corpus: takes documents and a vocabulary, writes the directory that `Store` reads.

A store is written shard by shard. An interrupted build is resumed after its last shard, and memory holds the document
starts of one shard. Nothing is written before the first document arrives.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np

from spacy_electra.data.atomic import alone_in, remove_files
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.store.aside import put_aside, put_back
from spacy_electra.data.store.manifest import (
    BUILDING,
    BUILDING_ONLY,
    DIGESTS,
    MANIFEST,
    PLANS,
    REPLACED,
    SKIPPED,
    STORE_FILES,
    TOKENIZER,
    Manifest,
    Shard,
    ShardWriter,
    TextFingerprint,
    digest_of,
    is_whole,
    join_starts,
)
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.tokenize import Progress, tokenized
from spacy_electra.data.tokenizer.difference import check_tokenizer_of_store, difference
from spacy_electra.data.tokenizer.files import TOKENIZER_FILES
from spacy_electra.data.tokenizer.wordpiece import WordPiece

SHARD_PIECES = 1 << 26  # 128 MiB on disk at two bytes a piece; an interrupted build repeats at most one shard

Pairs = Iterator[tuple[bytes, np.ndarray]]  # a document's `digest_of` and its pieces (N,)


def build_store(
    documents: Iterator[Document],
    tokenizer: WordPiece,
    out_dir: Path | str,
    *,
    shard_pieces: int = SHARD_PIECES,
    processes: int = 1,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
    overwrite: bool = False,
    keep_digests: bool = False,
) -> Manifest:
    """Tokenize `documents` into a store, or resume an interrupted build in `out_dir`.

    shard_pieces: a shard ends with the document that brings it to this many pieces.
    processes: 1 uses the threads of the tokenizers library, more start processes of one thread each.
    progress: called with the number of documents and of pieces done since the last call.
    skipped: the skipped documents, complete when `documents` ends.
    overwrite: replace an existing store once the first document arrives. The old store is kept in `manifest.REPLACED`
        until this one is finished, and is restored if not even a shard of this one was finished.
    keep_digests: keep the per-document digests and allow an empty corpus, as for a part of a store.
    Returns the manifest; it and all files have the same bytes for the same input, also after interruptions.
    Raises ValueError if `out_dir` holds a store of another corpus or vocabulary, if another process builds one there,
    and if there is no text.
    """
    if shard_pieces < 1 or processes < 1:
        raise ValueError(f"shard_pieces and processes must be at least 1, but got {shard_pieces} and {processes}.")
    out_dir, documents = Path(out_dir), iter(documents)
    with alone_in(out_dir):
        builder = Builder(out_dir, tokenizer, shard_pieces=shard_pieces, overwrite=overwrite, keep_digests=keep_digests)
        builder.pass_over((digest_of(document.text) for document in documents), progress)
        if builder.is_finished:
            builder.check_end(next(documents, None) is None)
            builder.remove_leftovers()
            return builder.manifest
        with closing(tokenized(documents, tokenizer, processes=processes, progress=progress)) as found:
            return builder.write(
                ((digest_of(document.text), ids) for document, ids in found),
                skipped=skipped if skipped is not None else Skipped(),
            )


class Builder:
    """One build of a store in a directory, resumed after an earlier one. Call `pass_over` first, then `write`.

    The caller holds `atomic.alone_in` the directory from before this is made.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer: WordPiece,
        *,
        shard_pieces: int = SHARD_PIECES,
        overwrite: bool = False,
        keep_digests: bool = False,
    ) -> None:
        """keep_digests: keep the per-document digests and allow an empty corpus.

        The other arguments are those of `build_store`.
        Raises ValueError if the directory holds something that this build cannot resume.
        """
        self.directory = directory
        self._tokenizer = tokenizer
        self._overwrite = overwrite
        self._keep_digests = keep_digests
        self._has_room = not overwrite
        self._text = TextFingerprint()
        put_back(directory)
        dtype = "<u2" if tokenizer.size <= 1 << 16 else "<u4"
        fresh = Manifest(dtype, tokenizer.size, tokenizer.special, tokenizer.fingerprint, shard_pieces)
        self.manifest = fresh if overwrite else _left_by_earlier_build(directory, fresh, tokenizer)

    @property
    def is_finished(self) -> bool:
        """Whether the store is already finished."""
        return not self._overwrite and (self.directory / MANIFEST).exists()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a build that was killed after its store was finished."""
        remove_files(self.directory, self._needed_by_build)
        shutil.rmtree(self.directory / REPLACED, ignore_errors=True)

    @property
    def _needed_by_build(self) -> tuple[str, ...]:
        return tuple(name for name in BUILDING_ONLY if name != DIGESTS or not self._keep_digests)

    def pass_over(self, digests: Iterator[bytes], progress: Progress | None = None) -> None:
        """Read the documents that the store already has from `digests`.

        progress: as for `build_store`.
        Raises ValueError if they differ from those in the store.
        """
        for shard in self.manifest.shards:
            for digest in islice(digests, shard.documents):
                self._text.add(digest)
            if self._text.value != shard.text:
                raise self._another_corpus(f"{shard.name} was made from text that the corpus given does not have")
            if progress is not None:
                progress(shard.documents, shard.pieces)

    def check_end(self, is_end: bool) -> None:
        """Raise ValueError unless the corpus ends where the finished store does."""
        if not is_end:
            raise self._another_corpus(f"the corpus given has more than its {self.manifest.documents} documents")

    def write(self, pairs: Pairs, *, skipped: Skipped) -> Manifest:
        """Write all further documents and finish the store. After an error, whole shards or nothing remain.

        pairs: documents with their pieces.
        skipped: the skipped documents, complete when `pairs` ends.
        """
        before = _names_in(self.directory)
        try:
            first = next(pairs, None)
            if first is not None or self._keep_digests:
                self._make_room()
            if first is not None:
                for shard in self._shards(chain([first], pairs)):
                    self.manifest = replace(self.manifest, shards=(*self.manifest.shards, shard))
                    self.manifest.write(self.directory / BUILDING)
            return self._finish(skipped)
        except BaseException:
            self._tidy(before)
            raise

    def _make_room(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            if (self.directory / MANIFEST).exists():
                put_aside(self.directory)
            remove_files(self.directory, STORE_FILES)
            shutil.rmtree(self.directory / PLANS, ignore_errors=True)
            self._has_room = True
        self._tokenizer.save(self.directory / TOKENIZER)

    def _shards(self, pairs: Pairs) -> Iterator[Shard]:
        """Write documents from where the manifest ends; each shard as it is whole."""
        for first in pairs:
            manifest = self.manifest  # grows with each shard that was yielded
            number, dtype = len(manifest.shards), manifest.dtype
            unk, first_piece = manifest.special.unk, manifest.pieces
            with ShardWriter(self.directory, number=number, dtype=dtype, first_piece=first_piece, unk=unk) as writer:
                for digest, ids in chain([first], pairs):
                    writer.add(digest, ids)
                    self._text.add(digest)
                    if writer.pieces >= manifest.shard_pieces:
                        break
                shard = writer.close(text=self._text.value)
            yield shard

    def _finish(self, skipped: Skipped) -> Manifest:
        """Join the document starts, list what was left out, write the manifest, remove what only the build needed."""
        directory, manifest = self.directory, replace(self.manifest, skipped=dict(skipped.counts))
        if manifest.pieces == 0 and not self._keep_digests:
            raise ValueError(
                f"the corpus for {directory} has no text: {manifest.documents} documents without a piece, "
                f"{sum(manifest.skipped.values())} left out by the reader {dict(manifest.skipped)}."
            )
        manifest = replace(manifest, starts_sha256=join_starts(directory, manifest))
        (directory / SKIPPED).unlink(missing_ok=True)
        if skipped.total:
            skipped.write(directory / SKIPPED)
        manifest.write(directory / MANIFEST)
        self.remove_leftovers()
        return manifest

    def _tidy(self, before: set[str] | None) -> None:
        """Remove what an error left that no later build can use. before: the names in the directory when it began."""
        if not self._has_room:
            return  # nothing was written yet, and what is there is another build's
        remove_files(self.directory, ("*.partial",))
        if self.manifest.shards:
            return
        remove_files(self.directory, BUILDING_ONLY)
        if TOKENIZER not in (before or ()) or (self.directory / REPLACED).exists():
            shutil.rmtree(self.directory / TOKENIZER, ignore_errors=True)
        put_back(self.directory)
        if before is None and not _names_in(self.directory):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _another_corpus(self, how: str) -> ValueError:
        return ValueError(
            f"{self.directory} holds a store of another corpus: {how}. "
            f"Give another directory, or replace the store with --overwrite."
        )


def _left_by_earlier_build(directory: Path, fresh: Manifest, tokenizer: WordPiece) -> Manifest:
    """The manifest of a finished store, or of the whole shards of a build under way; else `fresh`."""
    is_finished = (directory / MANIFEST).exists()
    path = directory / (MANIFEST if is_finished else BUILDING)
    if not path.exists():
        _check_tokenizer(directory / TOKENIZER, tokenizer)
        return fresh
    found = Manifest.read(path)
    check_tokenizer_of_store(found.tokenizer, tokenizer, directory)
    if is_finished:
        return Store(directory, found).manifest
    if found.shard_pieces != fresh.shard_pieces:
        raise ValueError(
            f"{directory} holds an interrupted build with shard_pieces={found.shard_pieces}, but got "
            f"{fresh.shard_pieces}. Resume with {found.shard_pieces}, or start again with --overwrite."
        )
    return replace(found, shards=tuple(takewhile(lambda shard: is_whole(directory, found, shard), found.shards)))


def _check_tokenizer(folder: Path, tokenizer: WordPiece) -> None:
    """Raise ValueError where the store's folder for its vocabulary is taken by another one, which no store made."""
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        return
    found = WordPiece.load(folder)
    if found.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"{folder} holds another tokenizer ({difference(found, tokenizer)}), and a store keeps its own there: give "
            f"another folder for the store, or replace that tokenizer with --overwrite."
        )


def _names_in(directory: Path) -> set[str] | None:
    return {path.name for path in directory.iterdir()} if directory.exists() else None
