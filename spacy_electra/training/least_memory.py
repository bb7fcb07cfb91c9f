"""Estimate the minimum memory of a run from its shapes, before anything is allocated.

The estimate leaves out most activations. A run that is refused here could not have started. One that passes may still
be too large, which `memory` detects.
"""

import torch

from spacy_electra.model.files.parameter_shapes import count_parameters
from spacy_electra.model.pretrainer import HalfShapes
from spacy_electra.training.memory import NoRoom, free_memory

COPIES = 4 * 4  # bytes of a weight, its gradient and its two moments
HALF_BYTES = 2  # bytes of a number in half precision
GB = 1e9


def weight_bytes(shapes: HalfShapes) -> int:
    """Bytes of weights, gradients and moments of embeddings and bodies; heads are small and left out."""
    small = shapes.generator
    numbers = count_parameters(shapes.discriminator)
    return COPIES * (numbers + (count_parameters(small, with_embeddings=False) if small else 0))


def row_bytes(shapes: HalfShapes) -> int:
    """Bytes that one row keeps: the input of each block, and the attention mask.

    The mask has a byte for each pair of pieces, and a number, which is added to the attention scores.
    """
    bodies = [shape for shape in (shapes.discriminator, shapes.generator) if shape]
    window = shapes.discriminator.positions
    read = sum(HALF_BYTES * window * shape.layers * shape.width for shape in bodies)
    return read + window * window * (1 + HALF_BYTES)


def check_room(shapes: HalfShapes, device: torch.device) -> None:
    """Raise NoRoom, a ValueError, if the free memory cannot hold one row and the weights."""
    weights, row, free = weight_bytes(shapes), row_bytes(shapes), free_memory(device)
    if weights + row > free:
        raise NoRoom(
            f"a run of this model needs {(weights + row) / GB:,.1f} GB at the least, {weights / GB:,.1f} for weights, "
            f"gradients and moments and {row / GB:,.1f} for one row of {shapes.discriminator.positions:,} pieces, but "
            f"{free / GB:,.1f} GB are free: choose a shorter model.window or a smaller model."
        )
