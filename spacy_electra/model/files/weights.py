"""Serialize a module's weights with their description as one message of bytes, and back.

A message is the checksum of the rest, the length of the description, the description as JSON, and the weights as a
safetensors file. The checksum detects damage, not tampering.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import srsly
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from spacy_electra.model.files.int8 import expanded

CHECKSUM = sha256().digest_size
LENGTH = 8  # bytes of the description's length, lowest first


@dataclass(frozen=True)
class SavedWeights:
    """The content of a message."""

    description: dict[str, Any]  # plain JSON values
    weights: dict[str, Tensor] | None  # None where the module had none yet


def pack_weights(saved: SavedWeights) -> bytes:
    """Serialize weights and description into one message."""
    description = srsly.json_dumps(saved.description).encode("utf8")
    parts = [len(description).to_bytes(LENGTH, "little"), description]
    if saved.weights is not None:
        parts.append(save_safetensors({name: tensor.cpu().contiguous() for name, tensor in saved.weights.items()}))
    checksum = sha256()
    for part in parts:
        checksum.update(part)
    return b"".join([checksum.digest(), *parts])


def unpack_weights(data: bytes | memoryview) -> SavedWeights:
    """The content of a message; weights that were compressed are float32 again.

    Raises ValueError if the message differs from its checksum or holds something else.
    """
    content = memoryview(data)[CHECKSUM:]
    if sha256(content).digest() != data[:CHECKSUM]:
        raise ValueError("the saved weights differ from their checksum.")
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    description, file = bytes(content[LENGTH:end]), bytes(content[end:])
    try:
        described = srsly.json_loads(description.decode("utf8"))
    except ValueError as error:
        raise ValueError(f"the description of the saved weights is no JSON: {error}") from error
    if not isinstance(described, dict):
        raise ValueError(f"the description of the saved weights is a {type(described).__name__}, expected an object")
    return SavedWeights(description=described, weights=_weights(file) if file else None)


def _weights(file: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each in memory of its own that begins where torch lets tensors begin."""
    try:
        with torch.device("cpu"):  # whatever the caller's is
            weights = load_safetensors(file)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not got
        raise ValueError(f"the saved weights are no safetensors file: {error}") from error
    return expanded({name: weight.clone() for name, weight in weights.items()})
