"""The files of a store: its manifest, and the writing of one shard. Every file is written atomically.

manifest.json            the content of the store; written last, so a directory that has it is complete
building.json            the same for an unfinished build; replaced after each shard
shard-00000.bin          pieces, little-endian, in document order
shard-00000.starts.npy   start of each document of the shard; removed when the build ends
shard-00000.digests      digest of each document's text; removed when the build ends, kept for parts
starts.npy               start of each document, and the end of the last one
tokenizer/               the vocabulary that made the pieces
parts/                   the stores of several jobs; removed after merging
replaced/                the store that an unfinished build replaces; removed when the build ends
skipped.jsonl            the skipped documents, if any
plans/                   row plans, kept by the packing
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from spacy_electra.data.atomic import give_name, partial_name, replace_file, sha256_of
from spacy_electra.data.batch import Special

VERSION = 2
DIGEST = 32  # bytes
MANIFEST = "manifest.json"
BUILDING = "building.json"
STARTS = "starts.npy"
TOKENIZER = "tokenizer"
PLANS = "plans"
PARTS = "parts"
REPLACED = "replaced"
SKIPPED = "skipped.jsonl"
DIGESTS = "shard-*.digests"
BUILDING_ONLY = (BUILDING, "shard-*.starts.npy", DIGESTS, "*.partial")
# The manifest first: what lacks it is unfinished
STORE_FILES = (MANIFEST, STARTS, SKIPPED, "shard-*.bin", *BUILDING_ONLY)


@dataclass(frozen=True)
class Shard:
    """Description of a shard in the manifest."""

    name: str  # file name of the pieces
    documents: int
    pieces: int
    sha256: str  # of the file
    text: str  # fingerprint of the corpus's text up to the end of this shard
    unknown: int | None = None  # pieces that are [UNK]; None where they were not counted yet

    @property
    def starts_name(self) -> str:
        return Path(self.name).with_suffix(".starts.npy").name

    @property
    def digests_name(self) -> str:
        return Path(self.name).with_suffix(".digests").name


@dataclass(frozen=True)
class Manifest:
    """Description of a store; the same input gives the same manifest, byte for byte."""

    dtype: str  # of a piece on disk: "<u2" or "<u4"
    vocabulary: int  # number of pieces in the vocabulary
    special: Special
    tokenizer: str  # fingerprint of the vocabulary
    shard_pieces: int  # a shard ends with the document that brings it to this many pieces
    shards: tuple[Shard, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)  # documents that the reader left out, by reason
    starts_sha256: str = ""
    version: int = VERSION

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def pieces(self) -> int:
        return sum(shard.pieces for shard in self.shards)

    @property
    def unknown(self) -> int | None:
        """Number of [UNK] pieces; None in a store of a version that did not count them."""
        counts = [shard.unknown for shard in self.shards]
        return None if None in counts else sum(count for count in counts if count)

    @property
    def text(self) -> str:
        """Fingerprint of the text of all documents, in order."""
        return self.shards[-1].text if self.shards else TextFingerprint().value

    @property
    def fingerprint(self) -> str:
        """Fingerprint of text and vocabulary: equal for stores with the same documents as the same pieces."""
        return hashlib.sha256(f"{self.version} {self.text} {self.tokenizer}".encode()).hexdigest()

    def _totals(self) -> dict[str, Any]:
        names = ("documents", "pieces", "text", "fingerprint")
        return {name: getattr(self, name) for name in names}

    def write(self, path: Path) -> None:
        """Replace `path` atomically."""
        facts = asdict(self) | self._totals()
        replace_file(path, json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest that `write` wrote.

        Raises ValueError if it is not a manifest of this version, or contradicts itself.
        """
        try:
            facts: dict[str, Any] = json.loads(path.read_bytes())
            if facts["version"] != VERSION:
                raise ValueError(
                    f"{path} has version {facts['version']}, expected {VERSION}: another version of this package wrote "
                    f"it. Build the store again with tokenize --overwrite."
                )
            totals = {name: facts.pop(name) for name in ("documents", "pieces", "text", "fingerprint")}
            shards = tuple(Shard(**shard) for shard in facts.pop("shards"))
            manifest = cls(**facts | {"shards": shards, "special": Special(**facts["special"])})
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as fault:
            raise ValueError(f"{path} is not the manifest of a store ({fault!r}). Build the store again.") from fault
        if totals != manifest._totals():
            raise ValueError(f"{path} was changed: its totals are not those of its shards. Build the store again.")
        return manifest


class TextFingerprint:
    """Running sha256 over the digests of documents, so that the fingerprint needs no text."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, digest: bytes) -> None:
        """Add the next document, by its `digest_of`."""
        self._sum.update(digest)

    @property
    def value(self) -> str:
        return self._sum.hexdigest()


def digest_of(text: str) -> bytes:
    """Digest of a document's text, DIGEST bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_digests(directory: Path, manifest: Manifest) -> Iterator[bytes]:
    """The `digest_of` of each document, in order, of a store that was built with keep_digests."""
    for shard in manifest.shards:
        with (directory / shard.digests_name).open("rb") as file:
            while digest := file.read(DIGEST):
                yield digest


class ShardWriter:
    """Writes one shard under partial names; `close` renames them. Without `close`, only partial files remain."""

    def __init__(self, directory: Path, *, number: int, dtype: str, first_piece: int, unk: int) -> None:
        """number: of the shard, from 0.
        dtype: of the pieces on disk.
        first_piece: place of the shard's first piece in the whole store.
        unk: number of [UNK].
        """
        self.pieces = 0
        self._unknown = 0
        self._unk = unk
        self._path = directory / f"shard-{number:05d}.bin"
        self._dtype = np.dtype(dtype)
        self._first_piece = first_piece
        self._starts = array("q")
        self._digests = bytearray()
        self._sum = hashlib.sha256()
        self._file = partial_name(self._path).open("wb")

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, digest: bytes, ids: np.ndarray) -> None:
        """Append the pieces (N,) of one document with its `digest_of`."""
        raw = ids.astype(self._dtype).tobytes()
        self._digests += digest
        self._starts.append(self._first_piece + self.pieces)
        self.pieces += len(ids)
        self._unknown += int(np.count_nonzero(ids == self._unk))
        self._sum.update(raw)
        self._file.write(raw)

    def close(self, *, text: str) -> Shard:
        """Sync and rename all three files; text: fingerprint of the corpus up to here."""
        sha256 = self._sum.hexdigest()
        shard = Shard(self._path.name, len(self._starts), self.pieces, sha256, text, self._unknown)
        replace_file(self._path.with_name(shard.digests_name), self._digests)
        starts = self._path.with_name(shard.starts_name)
        with partial_name(starts).open("wb") as file:
            np.save(file, np.array(self._starts, dtype="<i8"))
            file.flush()
            os.fsync(file.fileno())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        give_name(starts)
        give_name(self._path)
        return shard


def join_starts(directory: Path, manifest: Manifest) -> str:
    """Write the starts of all documents (documents + 1,) as one file, shard by shard; returns its sha256."""
    path = directory / STARTS
    layout = {"descr": "<i8", "fortran_order": False, "shape": (manifest.documents + 1,)}
    with partial_name(path).open("wb") as file:  # not through a map: a full disk kills a process that writes to one
        np.lib.format.write_array_header_1_0(file, layout)
        for shard in manifest.shards:
            file.write(np.load(directory / shard.starts_name).astype("<i8").tobytes())
        file.write(np.array([manifest.pieces], dtype="<i8").tobytes())
        file.flush()
        os.fsync(file.fileno())
    give_name(path)
    return sha256_of(path)


def is_whole(directory: Path, manifest: Manifest, shard: Shard) -> bool:
    """Whether a build can be resumed after `shard`; not if the corpus ended in it, as that may have grown."""
    path, others = directory / shard.name, (directory / shard.starts_name, directory / shard.digests_name)
    size = shard.pieces * np.dtype(manifest.dtype).itemsize
    is_there = path.exists() and path.stat().st_size == size and all(other.exists() for other in others)
    return is_there and shard.pieces >= manifest.shard_pieces
