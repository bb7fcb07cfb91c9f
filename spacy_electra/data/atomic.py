"""Write files atomically: under a partial name, synced to disk, then renamed."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def remove_files(directory: Path, patterns: tuple[str, ...]) -> None:
    """Remove the files in `directory` that match `patterns`, in the order of the patterns."""
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
    """The temporary name of `path` while it is being written."""
    return path.with_name(path.name + ".partial")


def give_name(path: Path) -> None:
    """Rename the synced partial file to `path`, and sync the directory, which holds the names."""
    os.replace(partial_name(path), path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to disk; does nothing for folders on Windows, which cannot open them."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes | bytearray) -> None:
    """Write `path` atomically: after a crash it has either the old content or the new."""
    with partial_name(path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    give_name(path)


def write_file(path: Path, content: bytes) -> None:
    """Write a path that a user gave: atomically for a regular file, through it for a link, a pipe or a device."""
    if path.is_symlink() or (path.exists() and not path.is_file()) or not os.access(path.parent, os.W_OK):
        path.write_bytes(content)
    else:
        replace_file(path, content)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold a lock that keeps this user's other processes on this machine from writing into `directory`.

    The lock is a file in the system's temporary folder, which the processes must share. It is released when the process
    ends, however that happens.

    directory: need not exist.
    Raises ValueError if another process holds the lock.
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
