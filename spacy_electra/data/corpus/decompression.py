"""Decompress streams in bounded memory: nothing is unpacked further than it is read."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Any, cast

from spacy_electra.data.corpus.limits import MemoryLimits

_BUFFER = 1 << 17  # bytes read at once
_INPUT = 1 << 10  # bytes unpacked at once; zstd makes 32 MB of them at most, whatever they are
_XZ_OVERHEAD = 1 << 20  # bytes that unpacking .xz takes beside its window
_TOO_MUCH_MEMORY = ("requires too much memory", "Memory usage limit exceeded")  # in the errors of zstd and xz


class WindowTooLarge(Exception):
    """Unpacking needs a larger window than the limits allow."""


def decompressed(raw: IO[bytes], compression: str, limits: MemoryLimits) -> io.BufferedReader:
    """The decompressed stream of a file.

    compression: suffix of the file; "" for no compression.
    Reading raises EOFError for data that ends early, WindowTooLarge, and OSError, zlib.error or lzma.LZMAError for
    damaged data.
    """
    openers: dict[str, Callable[[], Any]] = {
        "": lambda: raw,
        ".gz": lambda: gzip.GzipFile(fileobj=raw),
        ".bz2": lambda: bz2.BZ2File(raw),
        ".xz": lambda: _xz_stream(raw, limits),
        ".zst": lambda: _zstd_stream(raw, limits),
    }
    return io.BufferedReader(cast(io.RawIOBase, openers[compression]()), _BUFFER)


def _xz_stream(raw: IO[bytes], limits: MemoryLimits) -> io.RawIOBase:
    def new_frame() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=limits.window + _XZ_OVERHEAD)

    return _Frames(raw, new_frame, error=lzma.LZMAError, padding=b"\0")


def _zstd_stream(raw: IO[bytes], limits: MemoryLimits) -> io.RawIOBase:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("reading .zst needs the package zstandard: pip install zstandard") from error
    unpacker = zstandard.ZstdDecompressor(max_window_size=limits.window)
    return _Frames(raw, unpacker.decompressobj, error=zstandard.ZstdError)


class _Frames(io.RawIOBase):
    """Decompress frames one after the other; EOFError where the last one ends early, which `zstandard` keeps quiet."""

    def __init__(
        self, raw: IO[bytes], new_frame: Callable[[], Any], *, error: type[Exception], padding: bytes = b""
    ) -> None:
        """new_frame: makes the decompressor of a frame.
        error: type of exception that the decompressor raises.
        padding: bytes that may follow a frame.
        """
        self._raw = raw
        self._new_frame = new_frame
        self._error = error
        self._padding = padding
        self._frame: Any = None
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._compressed = self._compressed or self._raw.read(_INPUT)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError("the last frame is incomplete")
                return 0
            self._ready = memoryview(self._decompress())
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _decompress(self) -> bytes:
        if self._frame is None and self._padding:
            self._compressed = self._compressed.lstrip(self._padding)
            if not self._compressed:
                return b""
        frame = self._frame or self._new_frame()
        try:
            answer: bytes = frame.decompress(self._compressed)
        except self._error as error:
            if any(text in str(error) for text in _TOO_MUCH_MEMORY):
                raise WindowTooLarge(str(error)) from error
            raise OSError(str(error)) from error
        self._compressed = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame
        return answer
