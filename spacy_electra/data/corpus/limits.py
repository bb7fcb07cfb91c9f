"""How much memory the reading of a corpus may take, whatever a file holds or claims to hold."""

from dataclasses import dataclass

MB = 1_000_000
MANY_DOCUMENTS = 20  # of the largest size: what is read in one go, or passed over, without a document's end


@dataclass(frozen=True)
class MemoryLimits:
    """Limits that the readers hold. The messages of the readers name the options of the command line."""

    document_mb: float = 50  # of one document as it is stored, unpacked: a line of .jsonl, a value of .parquet
    window_mb: int = 128  # that unpacking .zst and .xz may take; what `zstd -d` allows without a word

    @property
    def document(self) -> int:
        """Bytes of a document."""
        return int(self.document_mb * MB)

    @property
    def file(self) -> int:
        """Bytes of what is held or passed over as a whole."""
        return MANY_DOCUMENTS * self.document

    @property
    def window(self) -> int:
        """Bytes of a window."""
        return self.window_mb << 20


DEFAULT_MEMORY = MemoryLimits()
