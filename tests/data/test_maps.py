"""Mapped files: the numbers are those of the file, and memory that reading took is given back."""

import os
from pathlib import Path

import numpy as np
import pytest

from spacy_electra.data.store.mmap import give_back, map_array, read_at_random

STATUS = Path("/proc/self/status")
IO = Path("/proc/self/io")
MEBIBYTE = 1 << 20


def resident_file_bytes() -> int:
    """What this process holds of mapped files, as Linux counts it."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("RssFile:"))
    return int(line.split()[1]) * 1024


def test_a_mapped_file_is_its_numbers(tmp_path: Path) -> None:
    np.arange(5, dtype="<u2").tofile(tmp_path / "a.bin")
    array = map_array(tmp_path / "a.bin", "<u2")
    assert array.tolist() == [0, 1, 2, 3, 4]
    assert type(array) is np.ndarray


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells how much of a file a process holds")
def test_memory_that_reading_took_is_given_back(tmp_path: Path) -> None:
    np.ones(16 * MEBIBYTE, dtype="u1").tofile(tmp_path / "a.bin")
    array = map_array(tmp_path / "a.bin", "u1")
    before = resident_file_bytes()
    assert int(array[1:].sum()) == 16 * MEBIBYTE - 1
    held = resident_file_bytes()
    give_back([array[1:]])
    assert held - before > 15 * MEBIBYTE
    assert resident_file_bytes() - before < MEBIBYTE
    assert int(array.sum()) == 16 * MEBIBYTE


def bytes_from_disk() -> int:
    (line,) = (line for line in IO.read_text().splitlines() if line.startswith("read_bytes:"))
    return int(line.split()[1])


def read_here_and_there(path: Path, *, is_announced: bool) -> int:
    """Bytes that come from disk for one number in each of 8 distant places."""
    np.ones(64 * MEBIBYTE, dtype="u1").tofile(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    array = map_array(path, "u1")
    if is_announced:
        read_at_random([array])
    before = bytes_from_disk()
    assert int(array[4 * MEBIBYTE :: 8 * MEBIBYTE].sum()) == 8
    return bytes_from_disk() - before


@pytest.mark.skipif(not IO.exists(), reason="only Linux tells how much of a file a process has read")
def test_reading_here_and_there_reads_no_more_than_is_asked_for(tmp_path: Path) -> None:
    if read_here_and_there(tmp_path / "a.bin", is_announced=False) < MEBIBYTE // 2:
        pytest.skip("this file system lies in memory, or reads nothing ahead")
    assert read_here_and_there(tmp_path / "b.bin", is_announced=True) < MEBIBYTE // 8


def test_arrays_in_memory_have_nothing_to_give_back() -> None:
    array = np.arange(4)
    give_back([array, array[1:]])
    read_at_random([array])
    assert array.tolist() == [0, 1, 2, 3]
