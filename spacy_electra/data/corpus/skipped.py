"""Record which documents of a corpus are skipped: counts by reason, examples, and a complete list.

skipped.jsonl    {"source": file, "line": number, "reason": kind of fault, "detail": this one}, in reading order
"""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from spacy_electra.data.atomic import give_name, partial_name

EMPTY, SHORT = "empty", "too short"  # reasons to leave out a document that are no faults

_EXAMPLES = 3  # kept of each reason
_LONGEST = 300  # characters of a detail, which may quote what it is about
_IN_MEMORY = 1 << 20  # bytes of the list; what is more goes to a temporary file


@dataclass(frozen=True)
class Example:
    """One skipped document."""

    source: str
    line: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.detail}"


class Skipped:
    """The skipped documents: count and first three examples of each reason, and the complete list."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: list[Example] = []
        self._list = tempfile.SpooledTemporaryFile(  # noqa: SIM115 -- it lives as long as this object
            max_size=_IN_MEMORY, mode="w+", encoding="utf8", newline="\n"
        )
        weakref.finalize(self, self._list.close)

    def add(self, reason: str, source: str, line: int, detail: str | None = None) -> None:
        """Record one document."""
        example = Example(source, line, reason, _shortened(detail or reason))
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if self.counts[reason] <= _EXAMPLES:
            self.examples.append(example)
        self._list.write(json.dumps(asdict(example)) + "\n")

    def add_listed(self, path: Path) -> None:
        """Add the records of a file that `write` wrote."""
        for example in read_skipped(path):
            self.add(example.reason, example.source, example.line, example.detail)

    def write(self, path: Path) -> None:
        """Write the complete list atomically."""
        self._list.seek(0)
        with partial_name(path).open("w", encoding="utf8", newline="\n") as file:
            shutil.copyfileobj(self._list, file)
            file.flush()
            os.fsync(file.fileno())
        self._list.seek(0, os.SEEK_END)
        give_name(path)

    @property
    def total(self) -> int:
        """Number of skipped documents."""
        return sum(self.counts.values())

    @property
    def faults(self) -> int:
        """Number of faulty documents; empty and short ones are not faults."""
        return sum(count for reason, count in self.counts.items() if reason not in (EMPTY, SHORT))

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))
        shown = [example for example in self.examples if example.reason not in (EMPTY, SHORT)][:_EXAMPLES]
        return f"{self.total} left out{f' ({reasons})' * bool(reasons)}" + "".join(
            f"\n  {example}" for example in shown
        )


def read_skipped(path: Path) -> Iterator[Example]:
    """The records of a file that `Skipped.write` wrote."""
    with path.open(encoding="utf8") as file:
        for line in file:
            yield Example(**json.loads(line))


def _shortened(detail: str) -> str:
    return detail if len(detail) <= _LONGEST else f"{detail[: _LONGEST // 2]} ... {detail[-_LONGEST // 2 :]}"
