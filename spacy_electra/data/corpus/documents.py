"""Stream documents from `.txt`, `.jsonl` and `.parquet`. Takes paths, returns documents; counts what is skipped.

- `.txt`: one document a file, with its paragraphs. A file of more than 50 MB counts as a collection: it is cut into
  documents of at most 1 MB, after a blank line if there is one, else after a line, else after a word.
- `.jsonl` and `.json`: one object a line, the text under "text".
- `.parquet`: one document a row, the text in the column "text" (needs pyarrow).

Text is UTF-8, with or without a byte order mark. Memory holds one document, a block of a `.txt`, or a batch of rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from spacy_electra.data.corpus.formats import Fault, Record, read_records
from spacy_electra.data.corpus.limits import DEFAULT_MEMORY, MemoryLimits
from spacy_electra.data.corpus.skipped import EMPTY, SHORT, Skipped
from spacy_electra.data.corpus.sources import TextSource, find_files, open_source

LONG, NUL = "too long", "NUL character"  # reasons that are faults


@dataclass(frozen=True)
class Document:
    """A text and its origin."""

    text: str
    source: str  # name of the file as it was found
    line: int  # its first, from 1; the row in Parquet


def read_documents(
    paths: Iterable[str],
    *,
    skipped: Skipped,
    max_faults: int = 1000,
    min_length: int = 1,
    max_length: int | None = None,
    may_be_empty: bool = False,
    memory: MemoryLimits = DEFAULT_MEMORY,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of files, folders, globs and URLs, in the order of `sources.find_files`.

    skipped: filled while reading.
    max_faults: number of faults to tolerate: broken lines, lines without text, and documents that are too long or hold
        a NUL character.
    min_length, max_length: characters of a document without white space at its ends; None for no limit.
    may_be_empty: allow a corpus without documents.
    memory: limits for a document; a larger one is a fault.
    on_bytes: called with the bytes read since the last call, as stored (`sources.total_bytes` gives their sum).
    Raises FileNotFoundError or ValueError: at once for paths that cannot be read; while reading for a file that is
    damaged or not UTF-8, for too many faults, and if no document is left.
    """
    limits = DocumentLimits(
        faults=skipped.faults + max_faults,
        shortest=max(min_length, 1),
        longest=max_length,
        memory=memory,
    )
    files = find_files(paths)
    usable = _usable(files, skipped, limits, on_bytes or (lambda count: None))
    return usable if may_be_empty else _at_least_one(usable, files, skipped)


@dataclass(frozen=True)
class DocumentLimits:
    """Which documents are used, and how many faults are tolerated."""

    faults: int  # of all that the reader has met
    shortest: int  # characters of a document
    longest: int | None
    memory: MemoryLimits


def _usable(
    files: list[str], skipped: Skipped, limits: DocumentLimits, on_bytes: Callable[[int], None]
) -> Iterator[Document]:
    """The documents with enough text; everything else into `skipped`."""
    before = skipped.faults
    for name in files:
        with open_source(name, limits.memory) as source:
            place = 0
            for entry in read_records(source):
                place = _report(source, place, on_bytes)
                judged = entry if isinstance(entry, Fault) else _judge(entry, limits)
                if isinstance(judged, Fault):
                    skipped.add(judged.reason, name, judged.line, judged.detail)
                    _check_faults(skipped, limits.faults, limits.faults - before)
                else:
                    yield Document(text=judged.text, source=name, line=judged.line)
            _report(source, place, on_bytes)


def _at_least_one(documents: Iterator[Document], files: list[str], skipped: Skipped) -> Iterator[Document]:
    some = False
    for document in documents:
        some = True
        yield document
    if not some:
        raise ValueError(
            f"the corpus has no usable document, expected at least one with text in {', '.join(files[:3])}"
            f"{' ...' * (len(files) > 3)}: {skipped if skipped.total else 'there is nothing in it'}"
        )


def _judge(entry: Record, limits: DocumentLimits) -> Record | Fault:
    """The text of a record, or the reason why it cannot be used."""
    length = len(entry.text.strip())
    if length < limits.shortest:
        reason = SHORT if length else EMPTY
        return Fault(entry.line, reason, reason)
    if limits.longest is not None and length > limits.longest:
        return Fault(entry.line, LONG, f"{length} characters, at most {limits.longest} were asked for")
    if (place := entry.text.find("\0")) >= 0:
        return Fault(entry.line, NUL, f"a NUL character, number {place + 1} of the text")
    return entry


def _report(source: TextSource, place: int, on_bytes: Callable[[int], None]) -> int:
    """Tell how far the file was read beyond `place`, and give the new place; Parquet is read from its end."""
    now = max(place, source.raw.tell())
    if now > place:
        on_bytes(now - place)
    return now


def _check_faults(skipped: Skipped, most: int, max_faults: int) -> None:
    if skipped.faults > most:
        raise ValueError(
            f"the corpus has more than {max_faults} faulty documents: correct it, or allow more with --max-faults. "
            f"{skipped}"
        )
