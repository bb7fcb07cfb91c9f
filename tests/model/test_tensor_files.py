"""Tensors in a file: the same bytes for the same tensors, and no byte that changes unnoticed."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spacy_electra.model.files.tensor_files import read_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "é": torch.tensor(1, dtype=torch.bfloat16), "none": torch.empty(0, 2)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_tensors(TENSORS, tmp_path / "file")
    for read in (read_tensors(tmp_path / "file"), load_file(tmp_path / "file")):
        assert read.keys() == TENSORS.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    contents = set()
    for _ in range(8):
        write_tensors(TENSORS, tmp_path / "file")
        contents.add((tmp_path / "file").read_bytes())
    assert len(contents) == 1


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(TENSORS, path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="file was changed after it was written: its weights have the sha256"):
        read_tensors(path)


def test_a_file_of_another_program_is_not_checked(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "file")
    assert torch.equal(read_tensors(tmp_path / "file")["a"], TENSORS["a"])


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_tensors(TENSORS, tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
