"""Find the files of a corpus and open them: files, folders, globs and URLs become decompressed streams."""

import gzip
import io
import logging
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import has_magic
from pathlib import PurePosixPath
from typing import IO, cast
from urllib.parse import urlsplit

import smart_open
from smart_open.transport import SUPPORTED_SCHEMES

from spacy_electra.data.corpus.decompression import WindowTooLarge, decompressed
from spacy_electra.data.corpus.folders import files_below, files_matching
from spacy_electra.data.corpus.limits import MemoryLimits

logger = logging.getLogger(__name__)

FORMATS = (".txt", ".jsonl", ".json", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
READABLE_FORMATS = f"{', '.join(FORMATS)}, all but the last also with {', '.join(COMPRESSIONS)}"

_FALSE_DATA = (OSError, gzip.BadGzipFile)  # their subclasses are about disk and network; bz2 raises a bare OSError


@dataclass(frozen=True)
class TextSource:
    """An open file of the corpus."""

    name: str
    stream: io.BufferedReader  # its bytes, decompressed
    raw: IO[bytes]  # the file as it is stored; `raw.tell()` is how far reading has come
    limits: MemoryLimits


def find_files(paths: Iterable[str | os.PathLike[str]], *, other: str = "") -> list[str]:
    """Files and URLs to read, in the order of `paths`; those of a folder or glob sorted by name.

    A folder stands for all readable files below it, as `folders.files_below` finds them. A file found twice is read
    once, with a logged warning.

    other: a further suffix that the caller can read.
    Raises FileNotFoundError for a missing path, ValueError for an unreadable suffix and for a folder or glob without
    files.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: dict[str, str] = {}
    for path in paths:
        for name in _expand(os.path.expanduser(os.fspath(path)), other):
            key = name if is_url(name) else os.path.realpath(name)
            if key in found:
                logger.warning("%s is named twice (first as %s) and is read once.", name, found[key])
            found.setdefault(key, name)
    if not found:
        raise ValueError("no path of a corpus was given, expected files, folders, globs or URLs")
    return list(found.values())


def is_url(name: str) -> bool:
    """True for `https://...`, `s3://...` and the like, which smart_open opens."""
    return "://" in name


def total_bytes(files: Iterable[str]) -> int | None:
    """Size of the files as stored, for a progress bar; None where a URL is among them."""
    names = list(files)
    return None if any(is_url(name) for name in names) else sum(os.path.getsize(name) for name in names)


def suffixes(name: str) -> tuple[str, str]:
    """Format and compression, such as (".jsonl", ".gz"). Raises ValueError for a format that cannot be read."""
    parts = PurePosixPath((urlsplit(name).path if is_url(name) else name.replace(os.sep, "/")).lower()).suffixes
    compression = parts.pop() if parts and parts[-1] in COMPRESSIONS else ""
    kind = parts[-1] if parts else ""
    if kind not in FORMATS or (kind == ".parquet" and compression):
        raise ValueError(f"cannot read {name}: its suffix is none of {READABLE_FORMATS}. {_what_to_do(kind, name)}")
    return kind, compression


def _what_to_do(kind: str, name: str) -> str:
    """How a file becomes one that can be read."""
    if kind in (".csv", ".tsv"):
        tab = ', delimiter="\\t"' if kind == ".tsv" else ""
        return (
            'Convert it to .jsonl, a line for each row, with the key "text": python -c \'import csv, json; [print('
            f'json.dumps({{"text": row["text"]}})) for row in csv.DictReader(open("{name}"){tab})]\' > corpus.jsonl'
        )
    return 'Convert it to .jsonl, one {"text": "..."} a line; only plain text may be renamed to .txt.'


def _expand(path: str, other: str) -> list[str]:
    if is_url(path) or os.path.isfile(path):
        if not (other and path.endswith(other)):
            suffixes(path)
        return [path]
    if os.path.isdir(path):
        return _readable(files_below(path), other, f"the folder {path} holds no file")
    if has_magic(path):
        return _readable(files_matching(path), other, f"{path} matches no file")
    raise FileNotFoundError(f"there is no {path}, expected a file, folder, glob or URL of the corpus: check the path")


def _readable(names: list[str], other: str, complaint: str) -> list[str]:
    found = [name for name in names if (other and name.endswith(other)) or _has_known_suffix(name)]
    if not found:
        also = f"; and {other}" if other else ""
        raise ValueError(f"{complaint} that can be read. Readable are {READABLE_FORMATS}{also}.")
    return found


def _has_known_suffix(name: str) -> bool:
    try:
        return bool(suffixes(name))
    except ValueError:
        return False


@contextmanager
def open_source(name: str, limits: MemoryLimits) -> Iterator[TextSource]:
    """Open a file or URL.

    Raises ValueError with its name if its compression is wrong or damaged, or needs too much memory.
    """
    _, compression = suffixes(name)
    with _open_url(name) if is_url(name) else open(name, "rb") as raw:
        try:
            yield TextSource(name=name, stream=decompressed(raw, compression, limits), raw=raw, limits=limits)
        except WindowTooLarge as error:
            raise ValueError(
                f"{name} needs more than {limits.window_mb} MB to be unpacked ({error}): allow more with "
                f"--max-window-mb, or compress it again with a smaller window (zstd without --ultra and --long)."
            ) from error
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if not compression or (isinstance(error, OSError) and (type(error) not in _FALSE_DATA or error.errno)):
                raise
            raise ValueError(_what_broke(name, compression, error)) from error


def _open_url(name: str) -> IO[bytes]:
    try:
        return cast(IO[bytes], smart_open.open(name, "rb", compression="disable"))
    except NotImplementedError as error:
        known = ", ".join(sorted(f"{scheme}://" for scheme in SUPPORTED_SCHEMES if scheme))
        raise ValueError(
            f"cannot open {name}: nothing reads such URLs here. Known are {known}; or download it."
        ) from error


def _what_broke(name: str, compression: str, error: Exception) -> str:
    kind = COMPRESSIONS[compression]
    if isinstance(error, EOFError):
        return f"{name} is truncated: its {kind} data ends too early. Download or copy it again."
    return (
        f"{name} cannot be decompressed: expected {kind} by its suffix {compression}, but it is something else or "
        f"damaged ({error}). Correct the suffix, or download or copy it again."
    )
