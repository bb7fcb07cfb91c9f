"""Read the page headers of Parquet files, which alone give the unpacked size of a page; pyarrow does not expose them.

They are structs in Thrift's compact protocol (github.com/apache/parquet-format, `PageHeader` in parquet.thrift).
"""

from collections.abc import Iterator
from typing import IO, Any

_UNPACKED_SIZE, _STORED_SIZE = 2, 3  # fields of a page header, in bytes
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12  # kinds of fields
_MOST_BITS = 35  # that a number of 32 bits may be coded in
_DEEPEST = 10  # structs in structs; a page header has three


def read_page_sizes(stream: IO[bytes], column: Any) -> Iterator[int]:
    """The unpacked bytes of each page of a column chunk, as its header states them.

    column: pyarrow's metadata of the chunk.
    Raises EOFError if the chunk ends early or holds something else.
    """
    place = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < place:
        place = column.dictionary_page_offset
    end = place + column.total_compressed_size
    while place < end:
        stream.seek(place)
        fields = _read_struct(stream, _DEEPEST)
        unpacked, stored = fields.get(_UNPACKED_SIZE, -1), fields.get(_STORED_SIZE, -1)
        if unpacked < 0 or stored < 0:
            raise EOFError(f"no header of a page at byte {place}")
        yield unpacked
        place = stream.tell() + stored


def _read_struct(stream: IO[bytes], depth: int) -> dict[int, int]:
    """The numbers in a struct by the number of their field; all else is passed over."""
    if depth == 0:
        raise EOFError("structs nested too deep for the header of a page")
    numbers: dict[int, int] = {}
    field = 0
    while head := _read_byte(stream):
        kind = head & 0x0F
        field = field + (head >> 4) if head >> 4 else _read_number(stream)
        if kind in (_I16, _I32, _I64):
            numbers[field] = _read_number(stream)
        else:
            _pass_over(stream, kind, depth)
    return numbers


def _pass_over(stream: IO[bytes], kind: int, depth: int) -> None:
    if kind == _BINARY:
        stream.seek(_read_varint(stream), 1)
    elif kind == _STRUCT:
        _read_struct(stream, depth - 1)
    elif kind in (_BYTE, _DOUBLE):
        stream.seek(1 if kind == _BYTE else 8, 1)
    elif kind not in (_TRUE, _FALSE):
        raise EOFError(f"a field of kind {kind}, which the header of a page does not have")


def _read_number(stream: IO[bytes]) -> int:
    coded = _read_varint(stream)
    return (coded >> 1) ^ -(coded & 1)


def _read_varint(stream: IO[bytes]) -> int:
    value = shift = 0
    while True:
        byte = _read_byte(stream)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
        if shift >= _MOST_BITS:
            raise EOFError("a number of more than 32 bits")


def _read_byte(stream: IO[bytes]) -> int:
    byte = stream.read(1)
    if not byte:
        raise EOFError("the header of a page is cut off")
    return byte[0]
