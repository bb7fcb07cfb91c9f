"""Recognize data that is not UTF-8 and say what to do. Takes the first bytes of a file, or undecodable bytes."""

import codecs

from spacy_electra.data.corpus.sources import TextSource

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


def check_head(source: TextSource) -> None:
    """Raise ValueError for UTF-16, UTF-32 and well-known binary formats; skip UTF-8's byte order mark."""
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


def other_encoding(data: bytes, error: UnicodeDecodeError, name: str) -> str:
    """The likely encoding of data that is not UTF-8, judged by the bytes around the first wrong one, with advice."""
    wrong = f"byte 0x{data[error.start]:02X}"
    if not data[: error.start].isascii():
        return f"{wrong} after good UTF-8: damaged, or two encodings joined; correct or remove the line"
    sample = data[error.start : error.start + _HEAD]
    if 2 * sum(byte >= 0x80 for byte in sample) > len(sample) > 8:
        return f"{wrong}: looks like GB18030, Shift JIS, KOI8 or the like; convert it to UTF-8 with iconv"
    return f"{wrong}: looks like Latin-1; convert it to UTF-8 with: iconv -f WINDOWS-1252 -t UTF-8 {name}"
