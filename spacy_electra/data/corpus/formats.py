"""Read the records of `.txt`, `.jsonl` and `.parquet` files: texts and faults with their places.

Text must be UTF-8; a byte order mark is dropped. A file that is unusable as a whole (another encoding or format)
raises ValueError with its name. A line that is unusable, for example by its size, is a `Fault`, and reading continues.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spacy_electra.data.corpus.encodings import check_head, other_encoding
from spacy_electra.data.corpus.limits import MANY_DOCUMENTS, MB, MemoryLimits
from spacy_electra.data.corpus.parquet import read_column
from spacy_electra.data.corpus.sources import TextSource, suffixes

PART_OF_TXT = 1_000_000  # most bytes of a document that a longer .txt is cut into
_READ_OF_TXT = 8 * PART_OF_TXT  # bytes read at once of one that is cut

TOO_LARGE = "too large"  # reason of a fault

_JSON_VALUE = 50  # bytes of a document for each value that its JSON may have; Python takes several times that for one
_OPENINGS = {b"[": 'jq -c ".[]"', b"{": "jq -c ."}  # lines that only JSON over several lines has
_MARKS = (b",", b"[", b"{")
_SKIPPED_AT_ONCE = 1 << 20  # bytes of a line that is too long

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """A document's text."""

    line: int  # its first, from 1; the row in Parquet
    text: str


@dataclass(frozen=True)
class Fault:
    """A line without usable text."""

    line: int
    reason: str  # the kind of fault, to count by
    detail: str  # this one


def read_records(source: TextSource) -> Iterator[Record | Fault]:
    """The records of a file, in order, by the format that its suffix names."""
    kind, _ = suffixes(source.name)
    if kind == ".parquet":
        return _read_parquet(source)
    check_head(source)
    return _read_txt(source) if kind == ".txt" else _read_jsonl(source)


def _read_txt(source: TextSource) -> Iterator[Record]:
    line = 1
    for part in _parts(source.stream, whole=source.limits.document):
        try:
            text = part.decode("utf-8")
        except UnicodeDecodeError as error:
            line += part.count(b"\n", 0, error.start)
            guess = other_encoding(part, error, source.name)
            raise ValueError(f"{source.name} is not UTF-8 in line {line} ({guess})") from error
        yield Record(line, text.replace("\r\n", "\n"))
        line += part.count(b"\n")


def _parts(stream: io.BufferedReader, *, whole: int) -> Iterator[bytes]:
    """A file of `whole` bytes at most; a longer one cut where a paragraph, line, word or at least a character ends."""
    rest = stream.read(whole + 1)
    if len(rest) <= whole:
        yield rest
        return
    most = min(PART_OF_TXT, whole)
    while rest:
        start = 0
        while len(rest) - start > most:
            end = start + _cut(rest[start : start + most])
            yield rest[start:end]
            start = end
        more = stream.read(_READ_OF_TXT)
        if not more:
            yield rest[start:]
        rest = rest[start:] + more if more else b""


def _cut(block: bytes) -> int:
    """Where a document of at most the block's bytes should end, as late as possible."""
    paragraph = max(block.rfind(b"\n\n") + 2, block.rfind(b"\n\r\n") + 3)
    for end in (paragraph if paragraph > 3 else 0, block.rfind(b"\n") + 1, block.rfind(b" ") + 1):
        if end:
            return end
    end = len(block)
    while end > 1 and block[end - 1] & 0xC0 == 0x80:  # a continuation byte of UTF-8
        end -= 1
    return end - 1 if end > 1 else len(block)


def _read_jsonl(source: TextSource) -> Iterator[Record | Fault]:
    lines = misread = 0
    hint = ""
    for number, raw in _lines(source):
        if raw is not None and (not raw or raw.isspace()):
            continue
        entry = _too_large(number, source.limits) if raw is None else _parse_line(number, raw, source)
        lines += 1
        if isinstance(entry, Fault) and entry.reason == _NOT_UTF8:
            misread, hint = misread + 1, entry.detail
        yield entry
    if misread and misread == lines:
        raise ValueError(f"no line of {source.name} is UTF-8: {hint}")


def _lines(source: TextSource) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is longer than a document may be."""
    longest, stream = source.limits.document, source.stream
    number = 1
    while line := stream.readline(longest + 1):
        if len(line) <= longest or line.endswith(b"\n"):
            yield number, line
        else:
            del line
            _pass_over_line(source, number)
            yield number, None
        number += 1


def _pass_over_line(source: TextSource, number: int) -> None:
    """Read on to the line's end. Raises ValueError where there is none for very long, as in no .jsonl."""
    left = source.limits.file
    while (line := source.stream.readline(_SKIPPED_AT_ONCE)) and not line.endswith(b"\n"):
        left -= len(line)
        if left < 0:
            raise ValueError(
                f"line {number} of {source.name} has no end within {source.limits.file / MB:,g} MB "
                f"({MANY_DOCUMENTS} times --max-document-mb), expected one JSON object a line: a JSON array becomes "
                f'lines with `jq -c ".[]"`.'
            )


_NOT_UTF8 = "not UTF-8"


def _parse_line(number: int, raw: bytes, source: TextSource) -> Record | Fault:
    """The text of one line of JSON."""
    line = raw.strip().removeprefix(codecs.BOM_UTF8)
    if _has_many_values(line, most=source.limits.document // _JSON_VALUE):
        most = source.limits.document // _JSON_VALUE
        reason = f"a line of more than {most:,} JSON values"
        return Fault(number, TOO_LARGE, f"{reason}: leave only its text, or allow more with --max-document-mb")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Fault(number, _NOT_UTF8, f"not UTF-8 ({other_encoding(line, error, source.name)})")
    except json.JSONDecodeError as error:
        if line in _OPENINGS:
            hint = f"JSON over several lines, expected one object a line: convert with `{_OPENINGS[line]}`"
            return Fault(number, "broken JSON", hint)
        return Fault(
            number, "broken JSON", f"broken JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})"
        )
    except RecursionError:
        return Fault(number, "broken JSON", "JSON with brackets nested hundreds deep: leave only its text")
    except ValueError as error:  # a number of thousands of digits
        return Fault(number, "broken JSON", f"broken JSON ({error})")
    if isinstance(value, list):
        return Fault(number, "no object", 'a JSON array, expected one object a line: convert with `jq -c ".[]"`')
    if not isinstance(value, dict):
        return Fault(number, "no object", f'JSON {type(value).__name__}, expected an object with "text"')
    if "text" not in value:
        return Fault(
            number, 'no "text"', f'no "text" among the keys {", ".join(map(repr, list(value)[:5])) or "(none)"}'
        )
    if line.count(b'"text"') > 1 and json.loads(line, object_pairs_hook=_count_texts) > 1:
        return Fault(number, 'two "text"', 'the key "text" twice in one object: which one counts is not said')
    return _checked_text(number, value["text"], source.limits)


def _count_texts(pairs: list[tuple[str, Any]]) -> int:
    """How often an object has the key "text"; called for the outermost object last."""
    return sum(key == "text" for key, _ in pairs)


def _has_many_values(line: bytes, *, most: int) -> bool:
    """Whether a line of JSON has more than `most` values, counted by separators outside of strings."""
    if sum(map(line.count, _MARKS)) <= most:
        return False
    bare = np.frombuffer(line.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    is_inside = np.cumsum(bare == ord('"'), dtype=np.uint8) % 2 == 1  # an odd number of quotes before it
    return sum(int(np.count_nonzero((bare == ord(mark)) & ~is_inside)) for mark in _MARKS) > most


def _checked_text(number: int, text: Any, limits: MemoryLimits) -> Record | Fault:
    if not isinstance(text, str):
        return Fault(number, '"text" is no string', f'"text" is {type(text).__name__}, expected a string')
    if not text.isascii() and _SURROGATE.search(text):
        return Fault(number, "half a surrogate pair", '"text" holds half a surrogate pair, which is no Unicode text')
    if 4 * len(text) > limits.document and len(text.encode()) > limits.document:
        return _too_large(number, limits)
    return Record(number, text)


def _too_large(number: int, limits: MemoryLimits) -> Fault:
    return Fault(
        number,
        TOO_LARGE,
        f"a document of more than {limits.document_mb:g} MB: cut it, or allow more with --max-document-mb",
    )


def _read_parquet(source: TextSource) -> Iterator[Record | Fault]:
    for number, text in enumerate(read_column(source), start=1):
        yield _checked_text(number, text, source.limits)
