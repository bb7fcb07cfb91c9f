"""Read and write safetensors files with a checksum in their header.

The checksum is in the file itself, so a program that rewrites the file leaves no outdated one behind. Errors of the
system are OSErrors, as for any other file.
"""

import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

SUM = "sha256"  # of names, types, shapes and bytes, in the file's metadata
_SYSTEM_ERROR = re.compile(r"os error (\d+)")


class ChangedError(ValueError):
    """The tensors of a file differ from those that were written."""


def write_tensors(tensors: Mapping[str, Tensor], path: Path, *, is_summed: bool = True) -> None:
    """Write contiguous tensors on the CPU.

    is_summed: write the checksum and the metadata that Hugging Face's libraries expect; False if it is kept elsewhere.
    Raises OSError with the file's name if it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode  # what the system gives to new files; the library gives them to this user alone
    try:
        save_file(dict(tensors), path, metadata={"format": "pt", SUM: sum_of(tensors)} if is_summed else None)
    except SafetensorError as error:
        found = _SYSTEM_ERROR.search(str(error))
        number = int(found[1]) if found else errno.EIO
        if sys.platform == "win32" and found:  # a number of Windows, which Python turns into its own
            raise OSError(0, str(error), str(path), number) from error
        raise OSError(number, os.strerror(number), str(path)) from error
    path.chmod(mode)
    if is_summed:
        _order_metadata(path)


def _order_metadata(path: Path) -> None:
    """Sort what the library writes in changing order, so that equal tensors give equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(size))
        head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
        ordered = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(ordered) == size
        file.seek(8)
        file.write(ordered)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, on the CPU. Raises SafetensorError for another format, ChangedError if the checksum differs."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(SUM)
    if expected is not None and (found := sum_of(tensors)) != expected:
        raise ChangedError(
            f"{path} was changed after it was written: its weights have the sha256 {found[:12]}, not {expected[:12]}. "
            f"Copy or export it again."
        )
    return tensors


def sum_of(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of tensors by name, independent of their order in a file."""
    answer = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        answer.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        answer.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return answer.hexdigest()
