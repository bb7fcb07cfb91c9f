"""Documents of a corpus for commands: what `data.corpus` reads, and spaCy's `.spacy` files, turned into text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_electra.data.corpus import Document, read_documents
from spacy_electra.data.skipped import EMPTY, Skipped
from spacy_electra.data.sources import find_files, is_url

SPACY = ".spacy"
CORPUS = (
    'Files, folders, globs or URLs: .txt (one document), .jsonl and .json (one object a line, key "text"), .parquet, '
    ".spacy; the first three also with .gz, .zst, .bz2, .xz"
)
MAX_FAULTS = 1000  # broken lines and lines without text in a corpus, after which a command stops


def corpus_files(paths: Iterable[str]) -> list[str]:
    """The files and URLs that paths, folders, globs and URLs name, `.spacy` files last.

    Raises FileNotFoundError or ValueError as `data.sources.find_files`.
    """
    return sorted(find_files(paths, other=SPACY), key=_is_bin)


def open_documents(
    files: Sequence[str],
    *,
    skipped: Skipped,
    max_faults: int,
    max_length: int | None = None,
    may_be_empty: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of what `corpus_files` found.

    skipped: is filled while reading. max_faults: faults put up with. max_length: characters of a document, None for no
    limit; not of `.spacy` files. may_be_empty: put up with no document at all, which files beside `.spacy` files may
    always have. on_bytes: called with the bytes read since the last call, of `total_bytes`.
    Raises FileNotFoundError or ValueError as `data.corpus.read_documents`, and for a damaged `.spacy` file.
    """
    texts = [name for name in files if not _is_bin(name)]
    bins = [Path(name) for name in files if _is_bin(name)]
    from_bins = _read_bins(bins, skipped, on_bytes or (lambda count: None))
    if not texts:
        return from_bins
    plain = read_documents(
        texts,
        skipped=skipped,
        max_faults=max_faults,
        max_length=max_length,
        may_be_empty=may_be_empty or bool(bins),
        on_bytes=on_bytes,
    )
    return chain(plain, from_bins)


def _is_bin(name: str) -> bool:
    return name.endswith(SPACY) and not is_url(name)


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise for a `.spacy` file whose reading ended in this error."""
    return ValueError(f"{path} cannot be read as a .spacy file ({type(error).__name__}: {error}): make it again.")


def _read_bins(paths: list[Path], skipped: Skipped, on_bytes: Callable[[int], None]) -> Iterator[Document]:
    for path in paths:
        try:
            docs = DocBin().from_disk(path).get_docs(Vocab())
            texts = [doc.text for doc in docs]
        except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
            raise damaged(path, error) from error
        for number, text in enumerate(texts, start=1):
            if text.strip():
                yield Document(text=text, source=str(path), line=number)
            else:
                skipped.add(EMPTY, str(path), number)
        on_bytes(path.stat().st_size)
