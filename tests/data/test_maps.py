"""Mapped files: the numbers are those of the file, and memory that reading took is given back."""

from pathlib import Path

import numpy as np
import pytest

from spacy_electra.data.maps import give_back, map_array

STATUS = Path("/proc/self/status")
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


def test_arrays_in_memory_have_nothing_to_give_back() -> None:
    array = np.arange(4)
    give_back([array, array[1:]])
    assert array.tolist() == [0, 1, 2, 3]
