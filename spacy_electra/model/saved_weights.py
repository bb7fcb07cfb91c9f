"""A module's weights with their description as one message of bytes, and back."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import srsly
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from spacy_electra.model.int8 import expanded


@dataclass(frozen=True)
class SavedWeights:
    """What a message holds."""

    description: dict[str, Any]  # plain JSON values
    weights: dict[str, Tensor] | None  # None where the module had none yet


def pack(saved: SavedWeights) -> bytes:
    """One message; the weights as safetensors with their checksum."""
    if saved.weights is None:
        return srsly.msgpack_dumps({"description": saved.description, "weights": None})
    data = save_safetensors({name: tensor.cpu().contiguous() for name, tensor in saved.weights.items()})
    message = {"description": saved.description, "weights": data, "sha256": sha256(data).hexdigest()}
    return srsly.msgpack_dumps(message)


def unpack(data: bytes) -> SavedWeights:
    """What `pack` put into a message, weights that were made smaller in float32 again.

    Raises ValueError for weights that differ from their checksum.
    """
    message = srsly.msgpack_loads(data)
    if message["weights"] is None:
        return SavedWeights(description=message["description"], weights=None)
    if message.get("sha256", None) not in (None, sha256(message["weights"]).hexdigest()):
        raise ValueError("the saved weights differ from their checksum.")
    weights = {name: tensor.clone() for name, tensor in load_safetensors(message["weights"]).items()}
    return SavedWeights(description=message["description"], weights=expanded(weights))
