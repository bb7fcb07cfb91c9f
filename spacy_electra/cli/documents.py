"""Documents of a corpus for commands: the files that `data.corpus` reads, and the texts of `.spacy` files."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import typer
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_electra.cli.bars import bar
from spacy_electra.cli.errors import warn
from spacy_electra.data.corpus.documents import Document, read_documents
from spacy_electra.data.corpus.limits import DEFAULT_MEMORY, MB, MemoryLimits
from spacy_electra.data.corpus.skipped import EMPTY, Skipped
from spacy_electra.data.corpus.sources import find_files, is_url, total_bytes

SPACY = ".spacy"
CORPUS = (
    'Files, folders, globs or URLs: .txt (one document), .jsonl and .json (one object a line, key "text"), .parquet, '
    ".spacy. The first three also with .gz, .zst, .bz2, .xz"
)
MAX_FAULTS = 1000  # broken lines and lines without text in a corpus, after which a command stops
MAX_DOCUMENT_MB = typer.Option(
    DEFAULT_MEMORY.document_mb,
    "--max-document-mb",
    min=0.001,
    max=1e6,
    help="Maximum megabytes of a document, to bound memory",
)
MAX_WINDOW_MB = typer.Option(
    DEFAULT_MEMORY.window_mb, "--max-window-mb", min=1, max=2048, help="Megabytes of memory for unpacking .zst and .xz"
)

_UNPACKED_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True)
class ReadingLimits:
    """What the reading of a corpus tolerates, and how much memory it may take."""

    max_faults: int = MAX_FAULTS  # number of faults to tolerate
    max_length: int | None = None  # characters of a document, None for no limit; does not apply to `.spacy` files
    memory: MemoryLimits = DEFAULT_MEMORY  # for one document and for unpacking


DEFAULT_READING = ReadingLimits()


def corpus_files(paths: Iterable[str]) -> list[str]:
    """The files and URLs that paths, folders, globs and URLs name, `.spacy` files last.

    Raises FileNotFoundError or ValueError as `data.corpus.sources.find_files`.
    """
    return sorted(find_files(paths, other=SPACY), key=_is_bin)


def open_documents(
    files: Sequence[str],
    *,
    skipped: Skipped,
    limits: ReadingLimits = DEFAULT_READING,
    may_be_empty: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of what `corpus_files` found.

    skipped: filled while reading.
    limits: faults to tolerate, length of a document, memory.
    may_be_empty: allow an empty corpus. Beside `.spacy` files the other files may always be empty.
    on_bytes: called with the bytes read since the last call, of `total_bytes`.
    Raises FileNotFoundError or ValueError as `data.corpus.documents.read_documents`, and for a damaged `.spacy` file.
    """
    texts = [name for name in files if not _is_bin(name)]
    bins = [Path(name) for name in files if _is_bin(name)]
    from_bins = _read_bins(bins, skipped, limits.memory, on_bytes or (lambda count: None))
    if not texts:
        return from_bins
    plain = read_documents(
        texts,
        skipped=skipped,
        max_faults=limits.max_faults,
        max_length=limits.max_length,
        may_be_empty=may_be_empty or bool(bins),
        memory=limits.memory,
        on_bytes=on_bytes,
    )
    return chain(plain, from_bins)


@contextmanager
def texts_with_progress(paths: Iterable[str], limits: ReadingLimits) -> Iterator[Iterator[str]]:
    """Stream the texts of a corpus behind a progress bar, and warn at the end of what was skipped.

    Raises what `corpus_files` and `open_documents` raise.
    """
    skipped, files = Skipped(), corpus_files(paths)
    with bar(total_bytes(files), what="read", unit="B") as progress:
        documents = open_documents(files, skipped=skipped, limits=limits, on_bytes=progress.update)
        yield (document.text for document in documents)
    if skipped.faults:
        warn(str(skipped))


def _is_bin(name: str) -> bool:
    return name.endswith(SPACY) and not is_url(name)


def damaged(path: Path, error: Exception) -> ValueError:
    """The error to raise for a `.spacy` file that could not be read because of `error`."""
    return ValueError(f"{path} cannot be read as a .spacy file ({type(error).__name__}: {error}): make it again.")


def _read_bins(
    paths: list[Path], skipped: Skipped, memory: MemoryLimits, on_bytes: Callable[[int], None]
) -> Iterator[Document]:
    for path in paths:
        check_unpacked(path, memory)
        for number, text in enumerate(_texts_in(path), start=1):
            if text.strip():
                yield Document(text=text, source=str(path), line=number)
            else:
                skipped.add(EMPTY, str(path), number)
        on_bytes(path.stat().st_size)


def _texts_in(path: Path) -> Iterator[str]:
    try:
        for doc in DocBin().from_disk(path).get_docs(Vocab()):
            yield doc.text
    except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
        raise damaged(path, error) from error


def check_unpacked(path: Path, memory: MemoryLimits) -> None:
    """Raise ValueError for a `.spacy` file that is damaged, or that unpacks to more than the memory limit."""
    unpacker, unpacked = zlib.decompressobj(), 0
    try:
        with path.open("rb") as file:
            while block := unpacker.unconsumed_tail or file.read(_UNPACKED_AT_ONCE):
                unpacked += len(unpacker.decompress(block, _UNPACKED_AT_ONCE))
                if unpacked > memory.file:
                    break
    except zlib.error as error:
        raise damaged(path, error) from error
    if unpacked > memory.file:
        raise ValueError(
            f"{path} unpacks to more than {memory.file / MB:,g} MB, which spaCy reads at once: split it into several "
            f"files, or allow larger documents than {memory.document_mb:g} MB with --max-document-mb."
        )
