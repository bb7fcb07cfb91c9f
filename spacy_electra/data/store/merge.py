"""Build a store by several jobs: each tokenizes its share of the files into a part, and merging joins the parts.

Takes the files of a corpus and the number of jobs. A part is a store of its own below `parts/`, whose name identifies
corpus and job. Shares follow each other in the order of the files, so the merged store has the same bytes as one built
by a single job. Merging reads pieces, not text.
"""

import hashlib
import json
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from spacy_electra.data.atomic import alone_in
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import is_url
from spacy_electra.data.store.manifest import MANIFEST, PARTS, SKIPPED, Manifest, read_digests
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import SHARD_PIECES, Builder, Pairs
from spacy_electra.data.tokenizer.wordpiece import WordPiece


@dataclass(frozen=True)
class Shares:
    """How the files of a corpus are divided among jobs."""

    files: tuple[tuple[str, ...], ...]  # of each job, in the order of the corpus
    key: str  # of names and sizes of all files

    def part(self, out_dir: Path, index: int) -> Path:
        """Folder in which job number `index` builds its store, with keep_digests."""
        return out_dir / PARTS / f"{self.key}-{index:05d}-of-{len(self.files):05d}"

    def parts(self, out_dir: Path) -> list[Path]:
        return [self.part(out_dir, index) for index in range(len(self.files))]

    def joined(self, out_dir: Path) -> Path:
        """A file that exists while the parts of a merged store are being removed."""
        return out_dir / PARTS / f"{self.key}-of-{len(self.files):05d}.joined"


def share_out(files: Sequence[str], *, jobs: int) -> Shares:
    """Give each job consecutive files of about the same number of bytes; files count equally if any is a URL.

    Raises ValueError if there are fewer files than jobs.
    """
    if len(files) < jobs:
        raise ValueError(
            f"--num-shards {jobs} shares out whole files, but the corpus has only {len(files)}: "
            f"ask for {len(files)} at most, or split the files."
        )
    sizes = [1 if is_url(name) else os.path.getsize(name) for name in files]
    weights = [1] * len(files) if any(map(is_url, files)) else sizes
    done = list(accumulate(weights, initial=0))
    bounds = [0]
    for job in range(1, jobs):
        wanted = done[-1] * job / jobs
        after = bisect_left(done, wanted)
        nearest = after - 1 if wanted - done[after - 1] < done[after] - wanted else after
        bounds.append(min(max(nearest, bounds[-1] + 1), len(files) - jobs + job))
    bounds.append(len(files))
    names = [[name if is_url(name) else os.path.basename(name), size] for name, size in zip(files, sizes, strict=True)]
    key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    return Shares(tuple(tuple(files[bounds[job] : bounds[job + 1]]) for job in range(jobs)), key)


def missing_parts(out_dir: Path, shares: Shares) -> list[int]:
    """Numbers of the jobs whose part is not finished."""
    return [index for index, part in enumerate(shares.parts(out_dir)) if not (part / MANIFEST).exists()]


def joined_pieces(out_dir: Path, shares: Shares) -> int:
    """Number of pieces of all parts. Raises ValueError that names the unfinished parts."""
    missing = missing_parts(out_dir, shares)
    if missing:
        told = ", ".join(map(str, missing[:10])) + " ..." * (len(missing) > 10)
        others = len(list((out_dir / PARTS).glob("*"))) if len(missing) == len(shares.files) else 0
        hint = f" The {others} parts there are of other files or of another --num-shards." if others else ""
        raise ValueError(
            f"{out_dir} cannot be joined: {len(missing)} of {len(shares.files)} parts are not finished. "
            f"Run tokenize with --shard-index {told} first.{hint}"
        )
    return sum(Manifest.read(part / MANIFEST).pieces for part in shares.parts(out_dir))


def join_parts(
    tokenizer: WordPiece,
    out_dir: Path,
    shares: Shares,
    *,
    shard_pieces: int = SHARD_PIECES,
    overwrite: bool = False,
    on_pieces: Callable[[int], object] = lambda count: None,
) -> Manifest:
    """Merge all parts into one store, and remove them; resumes after an interruption.

    on_pieces: called with the pieces done since the last call, of `joined_pieces`.
    Raises ValueError if a part is missing, damaged or of another vocabulary, and as `build_store` does.
    """
    joined_pieces(out_dir, shares)
    with alone_in(out_dir):
        parts = [Store.open(part, tokenizer=tokenizer) for part in shares.parts(out_dir)]
        builder = Builder(out_dir, tokenizer, shard_pieces=shard_pieces, overwrite=overwrite)
        pairs = _pairs_of(parts, on_pieces)
        builder.pass_over(digest for digest, _ in pairs)
        if builder.is_finished:
            builder.check_end(next(pairs, None) is None)
            builder.remove_leftovers()
            manifest = builder.manifest
        else:
            manifest = builder.write(pairs, skipped=_skipped_of(parts))
    del parts, pairs  # Windows removes no file that is mapped
    shares.joined(out_dir).touch()
    finish_removal(out_dir, shares)
    return manifest


def finish_removal(out_dir: Path, shares: Shares) -> None:
    """Remove the remaining parts of a store that `join_parts` has finished; does nothing for an unfinished one."""
    if shares.joined(out_dir).exists():
        for folder in shares.parts(out_dir):
            if folder.exists():
                (folder / MANIFEST).unlink(missing_ok=True)  # first, so that what an interruption leaves is no part
                shutil.rmtree(folder)
        shares.joined(out_dir).unlink()
    with suppress(OSError):  # it is not there, or holds other parts
        (out_dir / PARTS).rmdir()


def _skipped_of(parts: Sequence[Store]) -> Skipped:
    skipped = Skipped()
    for part in parts:
        if part.manifest.skipped:
            if not (part.directory / SKIPPED).is_file():
                raise ValueError(f"{part.directory} lacks {SKIPPED}: remove it and run tokenize for this part again.")
            skipped.add_listed(part.directory / SKIPPED)
    return skipped


def _pairs_of(parts: Sequence[Store], on_pieces: Callable[[int], object]) -> Pairs:
    for part in parts:
        documents: Iterator[np.ndarray] = part.each_document()
        for digest, ids in zip(read_digests(part.directory, part.manifest), documents, strict=True):
            yield digest, ids
            on_pieces(len(ids))
