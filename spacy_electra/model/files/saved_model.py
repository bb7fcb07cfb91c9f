"""Read and check a Hugging Face directory: takes a folder, returns shape and weights under ELECTRA's names.

Reads all families of `families.py`. Nothing is built from the numbers in config.json before the weights agree.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.families import Family, family_of
from spacy_electra.model.files.hub import CONFIG, read_config
from spacy_electra.model.files.int8 import expanded
from spacy_electra.model.files.names import (
    ParameterNames,
    body_names,
    embedding_names,
    is_encoder,
    is_int8,
    shape_of,
)
from spacy_electra.model.files.parameter_shapes import encoder_shapes
from spacy_electra.model.files.weight_files import read_weights
from spacy_electra.model.network.encoder import EncoderShape

VOCABULARY_LONG = ("embeddings.word.weight", "masked_head.bias")  # ours may be longer, padded to a round number


@dataclass(frozen=True)
class SavedModel:
    """The content of a model directory."""

    folder: Path
    family: Family
    shape: EncoderShape
    weights: dict[str, Tensor]  # by ELECTRA's names, without prefix

    def has(self, names: ParameterNames) -> bool:
        """Whether any of the named weights exists."""
        return any(name in self.weights for theirs in names.values() for name in theirs)


def read_model(folder: Path) -> SavedModel:
    """Read a directory. Raises FileNotFoundError for a missing file, ValueError for one of another model."""
    source, config = str(folder / CONFIG), read_config(folder)
    shape, family = shape_of(config, source=source), family_of(config, source)
    raw = read_weights(folder)
    weights = family.electra_weights(expanded(raw) if is_int8(config) else raw)
    weights.pop("embeddings.position_ids", None)  # older versions stored the numbers 0, 1, 2, …
    named = replace(shape, layers=min(shape.layers, len(weights) + 1))  # more cannot be there, whatever it claims
    known = {name for theirs in (embedding_names() | body_names(named, "body")).values() for name in theirs}
    if strange := sorted(name for name in weights if is_encoder(name) and name not in known):
        raise ValueError(
            f"{folder}: {CONFIG} does not speak of the weight {strange[0]!r} ({len(strange)} such): "
            f"{CONFIG} and the weights belong to different models."
        )
    return SavedModel(folder, family, shape, weights)


def has_own_body(generator: SavedModel, discriminator: SavedModel) -> bool:
    """Whether a generator's folder holds an encoder of its own; otherwise it shares the discriminator's body."""
    theirs = discriminator.weights
    encoder = {name: tensor for name, tensor in generator.weights.items() if is_encoder(name)}
    return any(name not in theirs or not are_equal(tensor, theirs[name]) for name, tensor in encoder.items())


def with_body(generator: SavedModel, discriminator: SavedModel) -> SavedModel:
    """A generator whose folder holds only its head, with the discriminator's encoder; others unchanged."""
    if any(map(is_encoder, generator.weights)):
        return generator
    body = {name: tensor for name, tensor in discriminator.weights.items() if is_encoder(name)}
    return replace(generator, weights=body | generator.weights)


def are_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, within the precision of the coarser dtype."""
    if one.dtype != other.dtype:
        coarser = min(one.dtype, other.dtype, key=lambda dtype: torch.finfo(dtype).bits)
        one, other = one.to(coarser), other.to(coarser)
    return torch.equal(one, other)


def check_encoder(saved: SavedModel) -> None:
    """Raise ValueError if config.json describes other weights than there are; allocates nothing of that size."""
    if saved.shape.layers > len(saved.weights):  # their names alone would take for ever
        raise ValueError(
            f"{saved.folder}: {CONFIG} asks for {saved.shape.layers:,} layers, but there are {len(saved.weights)} "
            f"weights: the two files belong to different models."
        )
    names, expected = embedding_names() | body_names(saved.shape, "body"), encoder_shapes(saved.shape)
    check_there(names, saved)
    for ours, theirs in names.items():
        rows = expected[ours][0] // len(theirs)
        if any(tuple(saved.weights[name].shape) != (rows, *expected[ours][1:]) for name in theirs):
            raise ValueError(_differing(saved, theirs[0]))


def check_there(names: ParameterNames, saved: SavedModel) -> None:
    """Raise ValueError if one of the named weights is missing, or is not a plain tensor of numbers."""
    if missing := [name for theirs in names.values() for name in theirs if name not in saved.weights]:
        raise ValueError(
            f"{saved.folder}: the weight {missing[0]!r} is missing ({len(missing)} such), though {CONFIG} asks for it: "
            f"the file is incomplete or belongs to another model. Copy or export it again."
        )
    for name in (name for theirs in names.values() for name in theirs):
        weight = saved.weights[name]
        if not weight.is_floating_point() or weight.layout != torch.strided:
            raise ValueError(
                f"{saved.folder}: {name!r} is of the type {weight.dtype}, expected floating point numbers."
            )


def _differing(saved: SavedModel, name: str) -> str:
    return (
        f"{saved.folder}: {name!r} has shape {tuple(saved.weights[name].shape)}, which differs from what {CONFIG} "
        f"says: the two files belong to different models."
    )


@torch.no_grad()
def fill(model: nn.Module, names: ParameterNames, saved: SavedModel) -> None:
    """Copy the named weights into `model`; if its vocabulary is longer, it keeps its own last rows."""
    check_there(names, saved)
    parameters = dict(model.named_parameters())
    for ours, theirs in names.items():
        value = torch.cat([saved.weights[name] for name in theirs])
        room = parameters[ours][: saved.shape.vocab] if ours in VOCABULARY_LONG else parameters[ours]
        if room.shape != value.shape:
            raise ValueError(_differing(saved, theirs[0]))
        room.copy_(value)


def tokenizer_of(saved: SavedModel) -> WordPiece:
    """The tokenizer beside the weights. Raises ValueError if it has pieces that the weights lack."""
    tokenizer = WordPiece.load(saved.folder)
    check_vocabulary(tokenizer, saved.shape, str(saved.folder))
    return tokenizer


def check_vocabulary(tokenizer: WordPiece, shape: EncoderShape, source: str) -> None:
    """Raise ValueError, naming `source`, if the tokenizer has pieces that the model lacks."""
    if tokenizer.size > shape.vocab:
        names = tokenizer.vocabulary[shape.vocab :]
        some = ", ".join(map(repr, names[:5])) + " ..." * (len(names) > 5)
        raise ValueError(
            f"the tokenizer has {tokenizer.size} pieces, but {source} has embeddings for {shape.vocab} only: there are "
            f"none for {some}. Take the tokenizer that the model was trained with, or remove tokens that were added to "
            f"it from its files."
        )
