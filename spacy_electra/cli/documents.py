"""Documents of a corpus for commands: what `data.corpus` reads, and spaCy's `.spacy` files, turned into text."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_electra.data.corpus import Document, read_documents
from spacy_electra.data.skipped import EMPTY, Skipped
from spacy_electra.data.sources import find_files, total_bytes

SPACY = ".spacy"
MAX_FAULTS = 1000  # broken lines and lines without text in a corpus, after which a command stops


def open_documents(
    paths: Iterable[Path],
    *,
    skipped: Skipped,
    max_faults: int,
    max_length: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of files, folders, globs and URLs; those of `.spacy` files come last.

    skipped: is filled while reading. max_faults: faults put up with. max_length: characters of a document, None for no
    limit; not of `.spacy` files. on_bytes: called with the bytes read since the last call, of `corpus_bytes`.
    Raises FileNotFoundError or ValueError as `data.corpus.read_documents`, and for a damaged `.spacy` file.
    """
    texts, bins = _apart(paths)
    reads = bool(texts or not bins)
    plain = (
        read_documents(texts, skipped=skipped, max_faults=max_faults, max_length=max_length, on_bytes=on_bytes)
        if reads
        else ()
    )
    return chain(plain, _read_bins(bins, skipped, on_bytes or (lambda count: None)))


def corpus_files(paths: Iterable[Path]) -> list[str]:
    """The files and URLs of a corpus in the order in which `open_documents` reads them."""
    texts, bins = _apart(paths)
    return [*(find_files(texts) if texts else ()), *map(str, bins)]


def corpus_bytes(paths: Iterable[Path]) -> int | None:
    """Size of the files of a corpus, None where a URL is among them."""
    texts, bins = _apart(paths)
    size = total_bytes(find_files(texts)) if texts else 0
    return None if size is None else size + sum(path.stat().st_size for path in bins)


def _apart(paths: Iterable[Path]) -> tuple[list[str], list[Path]]:
    """The paths for `read_documents`, and the `.spacy` files, those in folders included."""
    texts: list[str] = []
    bins: list[Path] = []
    for path in paths:
        if path.suffix == SPACY:
            if not path.is_file():
                raise FileNotFoundError(f"there is no file {path}, expected Docs as `spacy convert` writes them.")
            bins.append(path)
            continue
        inside = sorted(path.rglob(f"*{SPACY}")) if path.is_dir() else []
        bins += inside
        if not inside or _has_text(path):
            texts.append(_as_typed(path))
    return texts, bins


def _has_text(folder: Path) -> bool:
    try:
        return bool(find_files([folder]))
    except ValueError:
        return False


def _as_typed(path: Path) -> str:
    """Path("https://x") has lost a slash."""
    text = path.as_posix()
    scheme, colon, rest = text.partition(":/")
    return f"{scheme}://{rest}" if colon and len(scheme) > 1 and not rest.startswith("/") else text


def _read_bins(paths: list[Path], skipped: Skipped, on_bytes: Callable[[int], None]) -> Iterator[Document]:
    for path in paths:
        try:
            docs = DocBin().from_disk(path).get_docs(Vocab())
            texts = [doc.text for doc in docs]
        except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
            raise ValueError(
                f"{path} cannot be read as a .spacy file ({type(error).__name__}: {error}): make it again."
            ) from error
        for number, text in enumerate(texts, start=1):
            if text.strip():
                yield Document(text=text, source=str(path), line=number)
            else:
                skipped.add(EMPTY, str(path), number)
        on_bytes(path.stat().st_size)
