"""Memory-mapped arrays that release their pages. Takes paths, returns arrays."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def map_array(path: Path, dtype: str) -> np.ndarray:
    """Map a file as a plain array (N,); slicing a np.memmap costs ten times as much.

    Raises OSError if the file cannot be read, ValueError if it is empty.
    """
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def give_back(arrays: Iterable[np.ndarray]) -> None:
    """Release the pages that were read through mapped arrays; the system's cache still has them.

    Otherwise the process appears to hold all that it ever read of a file. Does nothing on Windows, and for arrays that
    are not mapped.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for array in arrays:
        if (mapped := _map_of(array)) is not None:
            mapped.madvise(mmap.MADV_DONTNEED)


def read_at_random(arrays: Iterable[np.ndarray]) -> None:
    """Turn off read-ahead for mapped files.

    Read-ahead may be megabytes for each access, so a file larger than memory would be read many times over. Does
    nothing on Windows, and for arrays that are not mapped.
    """
    if not hasattr(mmap, "MADV_RANDOM"):
        return
    for array in arrays:
        if (mapped := _map_of(array)) is not None:
            mapped.madvise(mmap.MADV_RANDOM)


def _map_of(array: np.ndarray) -> mmap.mmap | None:
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None
