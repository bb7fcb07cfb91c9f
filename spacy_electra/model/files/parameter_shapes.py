"""Compare the shapes of weights with the config that describes them, before anything is built from either."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from spacy_electra.model.network.encoder import EncoderShape

Shapes = dict[str, tuple[int, ...]]


def embedding_shapes(shape: EncoderShape) -> Shapes:
    """Shapes of the parameters of `Embeddings`, by name."""
    tables = {"word": shape.vocab, "position": shape.positions, "token_type": shape.types}
    return {f"{name}.weight": (rows, shape.embedding) for name, rows in tables.items()} | _norm("norm", shape.embedding)


def block_shapes(shape: EncoderShape) -> Shapes:
    """Shapes of the parameters of one `Block`, by name."""
    width, inner = shape.width, shape.feed_forward
    return (
        _linear("attention.qkv", width, 3 * width)
        | _linear("attention.output", width, width)
        | _norm("norm1", width)
        | _linear("feed_forward.up", width, inner)
        | _linear("feed_forward.down", inner, width)
        | _norm("norm2", width)
    )


def projection_shapes(shape: EncoderShape) -> Shapes:
    """Shapes of the parameters of the projection from the embedding width to the width of the blocks.

    Empty if both widths are equal.
    """
    return _linear("project", shape.embedding, shape.width) if shape.embedding != shape.width else {}


def encoder_shapes(shape: EncoderShape) -> Shapes:
    """Shapes of the parameters of an `Encoder`, by name. Call `count_parameters` first: layers are not bounded here."""
    block = block_shapes(shape)
    return {
        **{f"embeddings.{name}": size for name, size in embedding_shapes(shape).items()},
        **{f"body.{name}": size for name, size in projection_shapes(shape).items()},
        **{f"body.blocks.{number}.{name}": size for number in range(shape.layers) for name, size in block.items()},
    }


def count_parameters(shape: EncoderShape, *, with_embeddings: bool = True) -> int:
    """Number of parameters of an `Encoder`, or of its `Body` alone."""
    around = [projection_shapes(shape), embedding_shapes(shape) if with_embeddings else {}]
    return shape.layers * _count(block_shapes(shape)) + sum(map(_count, around))


def check_weights(shape: EncoderShape, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless these are all weights of an `Encoder` of this shape, each in float32."""
    check_shapes(shape, weights)
    for name, weight in weights.items():
        if weight.dtype != torch.float32:
            raise ValueError(f"the weight {name!r} is of the type {weight.dtype}, expected float32, float16 or int8")


def check_shapes(shape: EncoderShape, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless these are all weights of an `Encoder` of this shape, in any dtype.

    Takes no time or memory for a shape that is larger than the weights.
    """
    asked, there = count_parameters(shape), sum(weight.numel() for weight in weights.values())
    if asked != there:
        raise ValueError(f"their shape asks for {asked:,} numbers, but {there:,} were saved with it")
    expected = encoder_shapes(shape)
    if missing := [name for name in expected if name not in weights]:
        raise ValueError(f"the weight {missing[0]!r} is missing ({len(missing)} such)")
    for name, weight in weights.items():
        if name not in expected:
            raise ValueError(f"the weight {name!r:.80} belongs to no encoder")
        if tuple(weight.shape) != expected[name]:
            raise ValueError(f"the weight {name!r} is {tuple(weight.shape)}, but its shape asks for {expected[name]}")


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _count(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))
