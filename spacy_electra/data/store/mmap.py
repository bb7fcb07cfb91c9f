"""Files as arrays that the system reads as they are used, and that give memory back. Takes paths, gives arrays."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def map_array(path: Path, dtype: str) -> np.ndarray:
    """(N,) numbers of a file that is not empty, as a plain array: slicing a np.memmap costs ten times as much.

    Raises OSError where the file cannot be read, ValueError where it is empty.
    """
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def give_back(arrays: Iterable[np.ndarray]) -> None:
    """Let go of the pages that were read through mapped arrays; they come back from the system's cache when needed.

    Without it a process seems to hold all that it ever read of a file. Does nothing where the system cannot (Windows),
    and for arrays that are not mapped.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for array in arrays:
        if (mapped := _map_of(array)) is not None:
            mapped.madvise(mmap.MADV_DONTNEED)


def read_at_random(arrays: Iterable[np.ndarray]) -> None:
    """Have the system read no more of mapped files than is asked for.

    It reads ahead otherwise, which may be megabytes for each place that is asked; a file that is larger than memory is
    then read many times over. Does nothing where the system cannot (Windows), and for arrays that are not mapped.
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
