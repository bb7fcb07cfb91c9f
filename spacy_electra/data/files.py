"""Files that appear whole or not at all: written under a partial name, synced, then named."""

import hashlib
import os
from pathlib import Path


def remove_files(directory: Path, patterns: tuple[str, ...]) -> None:
    """Remove what `patterns` match in `directory`, in their order."""
    for pattern in patterns:
        for path in directory.glob(pattern):
            path.unlink()


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    answer = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            answer.update(block)
    return answer.hexdigest()


def partial_name(path: Path) -> Path:
    """The name that `path` has until it is whole."""
    return path.with_name(path.name + ".partial")


def give_name(path: Path) -> None:
    """Turn the synced partial file into `path`, and sync the directory, which is where names are kept."""
    os.replace(partial_name(path), path)
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def replace_file(path: Path, content: bytes | bytearray) -> None:
    """Write `path` so that a crash leaves the old content or the new, nothing between."""
    with partial_name(path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    give_name(path)
