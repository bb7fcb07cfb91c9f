"""What the files of a corpus hold: an open `.txt`, `.jsonl` or `.parquet` -> its texts and faults with their places.

Text must be UTF-8; a byte order mark is dropped. What no reading can mend (another encoding, another kind of file)
raises ValueError that names the file; what spoils one line is a `Fault` and reading goes on.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spacy_electra.data.sources import Source, suffixes

WHOLE_TXT = 50_000_000  # bytes up to which a .txt is one document
PART_OF_TXT = 1_000_000  # most bytes of a document that a longer .txt is cut into
LONGEST_LINE = 100_000_000  # bytes of a line of .jsonl, so that memory is bounded
PARQUET_ROWS = 1_000  # held at once

_HEAD = 4096  # bytes looked at to recognise what is no UTF-8 text
_OTHER_KINDS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"%PDF": "PDF",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Text:
    """A document's text."""

    line: int  # its first, from 1; the row in Parquet
    text: str


@dataclass(frozen=True)
class Fault:
    """A line without a text that can be used."""

    line: int
    reason: str  # the kind of fault, to count by
    detail: str  # this one


def read_texts(source: Source) -> Iterator[Text | Fault]:
    """Everything in a file, in order, by the format that its suffix names."""
    kind, _ = suffixes(source.name)
    if kind == ".parquet":
        return _read_parquet(source)
    _check_head(source)
    return _read_txt(source) if kind == ".txt" else _read_jsonl(source)


def _check_head(source: Source) -> None:
    """Refuse UTF-16, UTF-32 and well-known binary files by name; drop UTF-8's byte order mark."""
    head = source.stream.peek(_HEAD)[:_HEAD]
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise ValueError(
                f"{source.name} is a {kind} file, expected UTF-8 text: give it its own suffix, or unpack it."
            )
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or 5 * head.count(0) > len(
        head
    ):
        raise ValueError(
            f"{source.name} looks like UTF-16, expected UTF-8; "
            f"convert it to UTF-8 with: iconv -f UTF-16 -t UTF-8 {source.name}"
        )
    if head.startswith(codecs.BOM_UTF8):
        source.stream.read(len(codecs.BOM_UTF8))


def _read_txt(source: Source) -> Iterator[Text]:
    line = 1
    for part in _parts(source.stream):
        try:
            text = part.decode("utf-8")
        except UnicodeDecodeError as error:
            line += part.count(b"\n", 0, error.start)
            guess = _other_encoding(part, error, source.name)
            raise ValueError(f"{source.name} is not UTF-8 in line {line} ({guess})") from error
        yield Text(line, text.replace("\r\n", "\n"))
        line += part.count(b"\n")


def _parts(stream: io.BufferedReader) -> Iterator[bytes]:
    """A short file whole, a long one cut where a paragraph, line, word or at least a character ends."""
    rest = stream.read(WHOLE_TXT + 1)
    if len(rest) <= WHOLE_TXT:
        yield rest
        return
    while rest:
        start = 0
        while len(rest) - start > PART_OF_TXT:
            end = start + _cut(rest[start : start + PART_OF_TXT])
            yield rest[start:end]
            start = end
        more = stream.read(WHOLE_TXT)
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


def _other_encoding(data: bytes, error: UnicodeDecodeError, name: str) -> str:
    """What the data may be instead of UTF-8, from what surrounds the first byte that is wrong, and what to do."""
    wrong = f"byte 0x{data[error.start]:02X}"
    if not data[: error.start].isascii():
        return f"{wrong} after good UTF-8: damaged, or two encodings joined; correct or remove the line"
    sample = data[error.start : error.start + _HEAD]
    if 2 * sum(byte >= 0x80 for byte in sample) > len(sample) > 8:
        return f"{wrong}: looks like GB18030, Shift JIS, KOI8 or the like; convert it to UTF-8 with iconv"
    return f"{wrong}: looks like Latin-1; convert it to UTF-8 with: iconv -f WINDOWS-1252 -t UTF-8 {name}"


def _read_jsonl(source: Source) -> Iterator[Text | Fault]:
    lines = misread = 0
    hint = ""
    for number, raw in _lines(source.stream):
        if raw is not None and not raw.strip():
            continue
        entry = _parse_line(number, raw, source.name)
        lines += 1
        if isinstance(entry, Fault) and entry.reason == _NOT_UTF8:
            misread, hint = misread + 1, entry.detail
        yield entry
    if misread and misread == lines:
        raise ValueError(f"no line of {source.name} is UTF-8: {hint}")


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is longer than memory should hold."""
    number = 1
    while line := stream.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield number, line
        else:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_HEAD)
            yield number, None
        number += 1


_NOT_UTF8 = "not UTF-8"


def _parse_line(number: int, raw: bytes | None, name: str) -> Text | Fault:
    """The text of one line of JSON."""
    if raw is None:
        return Fault(number, "too long", f"a line of more than {LONGEST_LINE} bytes, expected one object a line")
    line = raw.strip().removeprefix(codecs.BOM_UTF8)
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Fault(number, _NOT_UTF8, f"not UTF-8 ({_other_encoding(line, error, name)})")
    except json.JSONDecodeError as error:
        return Fault(
            number, "broken JSON", f"broken JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})"
        )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested as deep
        return Fault(number, "broken JSON", f"broken JSON ({error})")
    if isinstance(value, list):
        return Fault(number, "no object", 'a JSON array, expected one object a line: convert with `jq -c ".[]"`')
    if not isinstance(value, dict):
        return Fault(number, "no object", f'JSON {type(value).__name__}, expected an object with "text"')
    if "text" not in value:
        return Fault(
            number, 'no "text"', f'no "text" among the keys {", ".join(map(repr, list(value)[:5])) or "(none)"}'
        )
    return _checked_text(number, value["text"])


def _checked_text(number: int, text: Any) -> Text | Fault:
    if not isinstance(text, str):
        return Fault(number, '"text" is no string', f'"text" is {type(text).__name__}, expected a string')
    if not text.isascii() and _SURROGATE.search(text):
        return Fault(number, "half a surrogate pair", '"text" holds half a surrogate pair, which is no Unicode text')
    return Text(number, text)


def _read_parquet(source: Source) -> Iterator[Text | Fault]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(
            f"reading {source.name} needs the package pyarrow: pip install pyarrow, or convert it to .jsonl"
        ) from error
    try:
        file = parquet.ParquetFile(source.stream)
        if "text" not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names[:5])
            raise ValueError(f'{source.name} has the columns {names}, expected one named "text": rename it.')
        batches = file.iter_batches(batch_size=PARQUET_ROWS, columns=["text"])
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        for number, text in enumerate(texts, start=1):
            yield _checked_text(number, text)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"{source.name} is damaged or no Parquet file ({error}): download or copy it again."
        ) from error
