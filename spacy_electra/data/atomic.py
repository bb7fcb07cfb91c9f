"""Files that appear whole or not at all: written under a partial name, synced, then named."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


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
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file or folder to disk; Windows cannot open folders, and does not need to."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes | bytearray) -> None:
    """Write `path` so that a crash leaves the old content or the new, nothing between."""
    with partial_name(path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    give_name(path)


def write_file(path: Path, content: bytes) -> None:
    """The same for a path that somebody named: a link, a pipe or a device stays such and is written through."""
    if path.is_symlink() or (path.exists() and not path.is_file()) or not os.access(path.parent, os.W_OK):
        path.write_bytes(content)
    else:
        replace_file(path, content)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep other processes of this machine and user from writing into `directory`, which need not be there.

    They must share the folder of temporary files, where the lock lies, so that nothing is left in `directory`; the
    system forgets the lock of a process that dies. Raises ValueError where another process holds it.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    name = hashlib.sha256(str(directory.resolve()).encode("utf8", "surrogateescape")).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"spacy-electra-{user}-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is writing into {directory}: wait for it or stop it, or give another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()
