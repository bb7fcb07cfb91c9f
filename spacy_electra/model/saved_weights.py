"""A module's weights with their description as one message of bytes, and back.

A message is the checksum of what follows, the length of the description, the description as JSON, and the weights as a
safetensors file. Loading copies them once, whatever else the message passes through: fresh memory costs more time than
what is written into it.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np
import srsly
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from spacy_electra.model.int8 import expanded

CHECKSUM = sha256().digest_size
LENGTH = 8  # bytes of a length, lowest first, here and in safetensors
DTYPES = {  # safetensors' names of what modules hold
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class SavedWeights:
    """What a message holds."""

    description: dict[str, Any]  # plain JSON values
    weights: dict[str, Tensor] | None  # None where the module had none yet


def pack(saved: SavedWeights) -> bytes:
    """One message."""
    description = srsly.json_dumps(saved.description).encode("utf8")
    parts = [len(description).to_bytes(LENGTH, "little"), description]
    if saved.weights is not None:
        parts.append(save_safetensors({name: tensor.cpu().contiguous() for name, tensor in saved.weights.items()}))
    checksum = sha256()
    for part in parts:
        checksum.update(part)
    return b"".join([checksum.digest(), *parts])


def unpack(data: bytes | memoryview) -> SavedWeights:
    """What `pack` put into a message, weights that were made smaller in float32 again.

    Raises ValueError for a message that differs from its checksum.
    """
    content = memoryview(data)[CHECKSUM:]
    description, file = _after_length(content)
    header, weights = _after_length(file)
    with ThreadPoolExecutor(max_workers=1) as another:  # both let go of the interpreter
        checksum = another.submit(lambda: sha256(content).digest())
        memory = _copied(weights)
    if checksum.result() != data[:CHECKSUM]:
        raise ValueError("the saved weights differ from their checksum.")
    return SavedWeights(
        description=srsly.json_loads(bytes(description).decode("utf8")),
        weights=expanded(_tensors(bytes(header), memory)) if len(file) else None,
    )


def _after_length(data: memoryview) -> tuple[memoryview, memoryview]:
    """So many bytes as the length at the beginning says, and the rest."""
    end = LENGTH + int.from_bytes(data[:LENGTH], "little")
    return data[LENGTH:end], data[end:]


def _copied(data: memoryview) -> np.ndarray:
    memory = torch.empty(len(data), dtype=torch.uint8, device="cpu").numpy()  # numpy's own waits for large pages
    memory[:] = np.frombuffer(data, dtype=np.uint8)
    return memory


def _tensors(header: bytes, memory: np.ndarray) -> dict[str, Tensor]:
    """The tensors that the header of a safetensors file finds in `memory`; no two share a storage."""
    entries = srsly.json_loads(header.decode("utf8"))
    return {name: _tensor(memory, **entry) for name, entry in entries.items() if name != "__metadata__"}


def _tensor(memory: np.ndarray, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    """One entry of a safetensors header, where its bytes lie."""
    if not prod(shape):
        return torch.empty(shape, dtype=DTYPES[dtype], device="cpu")
    return torch.frombuffer(memory, dtype=DTYPES[dtype], offset=data_offsets[0], count=prod(shape)).view(shape)
