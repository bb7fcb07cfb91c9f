"""Streams of documents from `.txt`, `.jsonl` and `.parquet`. Takes paths, gives documents; what is left out is counted.

- `.txt`: one document a file, paragraphs and all. A file of more than 50 MB is a collection, not a document: it is cut
  into documents of at most 1 MB, after a blank line where there is one, else after a line, else after a word.
- `.jsonl` and `.json`: one object a line, the text under "text".
- `.parquet`: one document a row, the text in the column "text" (needs pyarrow).

Text is UTF-8, with or without a byte order mark. Memory holds one document, a block of a `.txt`, or a batch of rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from spacy_electra.data.formats import Fault, read_texts
from spacy_electra.data.sources import Source, find_files, open_source

EMPTY, SHORT = "empty", "too short"  # reasons to leave out a document that are no faults
_EXAMPLES = 3  # kept of each reason


@dataclass(frozen=True)
class Document:
    """A text and where it came from."""

    text: str
    source: str  # name of the file as it was found
    line: int  # its first, from 1; the row in Parquet


@dataclass(frozen=True)
class Example:
    """One document that was left out."""

    source: str
    line: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.detail}"


@dataclass
class Skipped:
    """What was left out: how often for each reason, and the first three examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def add(self, reason: str, source: str, line: int, detail: str | None = None) -> None:
        """Count one document."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if self.counts[reason] <= _EXAMPLES:
            self.examples.append(Example(source, line, reason, detail or reason))

    @property
    def total(self) -> int:
        """All that was left out."""
        return sum(self.counts.values())

    @property
    def faults(self) -> int:
        """Those that should not be there; empty and short documents are ordinary."""
        return sum(count for reason, count in self.counts.items() if reason not in (EMPTY, SHORT))

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))
        shown = [example for example in self.examples if example.reason not in (EMPTY, SHORT)][:_EXAMPLES]
        return f"{self.total} left out{f' ({reasons})' * bool(reasons)}" + "".join(
            f"\n  {example}" for example in shown
        )


def read_documents(
    paths: Iterable[str],
    *,
    skipped: Skipped,
    max_faults: int = 1000,
    min_length: int = 1,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of files, folders, globs and URLs, in the order of `sources.find_files`.

    skipped: is filled while reading. max_faults: broken lines and lines without text that are put up with; one more
    stops. min_length: characters that a document needs, white space at its ends apart. on_bytes: called with the bytes
    of the files, as stored, read since the last call (`sources.total_bytes` gives their sum).

    Raises FileNotFoundError or ValueError: at once for paths that cannot be read; while reading for a file that is
    damaged or not UTF-8, for too many faults, and where no document is left.
    """
    files = find_files(paths)
    return _usable(files, skipped, max_faults, max(min_length, 1), on_bytes or (lambda count: None))


def _usable(
    files: list[str], skipped: Skipped, max_faults: int, min_length: int, on_bytes: Callable[[int], None]
) -> Iterator[Document]:
    """The documents with enough text; everything else into `skipped`."""
    some, most = False, skipped.faults + max_faults
    for name in files:
        with open_source(name) as source:
            place = 0
            for entry in read_texts(source):
                place = _report(source, place, on_bytes)
                if isinstance(entry, Fault):
                    skipped.add(entry.reason, name, entry.line, entry.detail)
                    _check_faults(skipped, most, max_faults)
                elif (length := len(entry.text.strip())) < min_length:
                    skipped.add(SHORT if length else EMPTY, name, entry.line)
                else:
                    some = True
                    yield Document(text=entry.text, source=name, line=entry.line)
            _report(source, place, on_bytes)
    if not some:
        raise ValueError(
            f"the corpus has no usable document, expected at least one with text in {', '.join(files[:3])}"
            f"{' ...' * (len(files) > 3)}: {skipped if skipped.total else 'there is nothing in it'}"
        )


def _report(source: Source, place: int, on_bytes: Callable[[int], None]) -> int:
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
