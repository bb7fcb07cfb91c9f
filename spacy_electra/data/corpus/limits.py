"""Limits for the memory that reading a corpus may take, whatever the content of its files."""

from dataclasses import dataclass

MB = 1_000_000
MANY_DOCUMENTS = 20  # of the largest size: what is read in one go, or passed over, without a document's end


@dataclass(frozen=True)
class MemoryLimits:
    """Limits of the readers. Their error messages name the options of the command line."""

    document_mb: float = 50  # of one document as it is stored, unpacked: a line of .jsonl, a value of .parquet
    window_mb: int = 128  # that unpacking .zst and .xz may take; what `zstd -d` allows without a word

    @property
    def document(self) -> int:
        """Maximum bytes of a document."""
        return int(self.document_mb * MB)

    @property
    def file(self) -> int:
        """Maximum bytes that are held or skipped at once."""
        return MANY_DOCUMENTS * self.document

    @property
    def window(self) -> int:
        """Maximum bytes of a decompression window."""
        return self.window_mb << 20


DEFAULT_MEMORY = MemoryLimits()
