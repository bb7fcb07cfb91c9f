"""To and from Hugging Face's ELECTRA directories: `ElectraModel`, `ElectraForMaskedLM`, `ElectraForPreTraining`.

Takes and gives config.json, model.safetensors and tokenizer files, without the transformers library.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from spacy_electra.data.replacing import replaced_folder
from spacy_electra.data.tokenizer_difference import cut_alike, difference
from spacy_electra.data.tokenizer_files import STALE
from spacy_electra.data.wordpiece import WordPiece
from spacy_electra.model.electra import Electra, MaskedLanguageModel
from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.generators import warn_of_generator
from spacy_electra.model.hub import CONFIG, ONNX, find_discriminator, find_generator, read_config
from spacy_electra.model.huggingface_format import (
    Names,
    body_names,
    config_of,
    embedding_names,
    is_encoder,
    masked_head_names,
    replaced_head_names,
    shape_of,
)
from spacy_electra.model.isolation import building
from spacy_electra.model.parameter_shapes import encoder_shapes
from spacy_electra.model.tensor_files import write_tensors
from spacy_electra.model.weight_files import INDEX, OLD_INDEX, OLD_WEIGHTS, WEIGHTS, read_weights

__all__ = [
    "config_of",
    "load_electra",
    "load_encoder",
    "save_discriminator",
    "save_encoder",
    "save_generator",
    "shape_of",
    "write_discriminator",
    "write_encoder",
    "write_generator",
]

logger = logging.getLogger(__name__)

UNTIED = "generator_lm_head.weight"  # the word embeddings once more; Hugging Face can let it have other numbers

Network = TypeVar("Network", bound=Electra | MaskedLanguageModel)

PREFIX = "electra."  # before the encoder's names, where a head stands beside it
VOCABULARY_LONG = ("embeddings.word.weight", "masked_head.bias")  # ours may be longer, padded to a round number


def save_discriminator(model: Electra | MaskedLanguageModel, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write what a pipeline goes on with: an `ElectraForPreTraining` directory.

    The encoder of the masked-language-model objective has another head and becomes an `ElectraForMaskedLM`.
    For this and the other two: all files or none, made where missing, float32, vocabulary cut to the tokenizer's size;
    OSError where the directory cannot be written, ValueError where the tokenizer has pieces that the model lacks.
    """
    with replaced_model(Path(out_dir)) as folder:
        write_discriminator(model, tokenizer, folder)


def save_generator(model: Electra, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write the generator, with the embeddings it shares, as an `ElectraForMaskedLM` directory."""
    with replaced_model(Path(out_dir)) as folder:
        write_generator(model, tokenizer, folder)


def save_encoder(encoder: Encoder, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write an encoder without a head as an `ElectraModel` directory."""
    with replaced_model(Path(out_dir)) as folder:
        write_encoder(encoder, tokenizer, folder)


@contextmanager
def replaced_model(out_dir: Path) -> Iterator[Path]:
    """A folder whose model takes the place of that in `out_dir` when the block ends; other files stay there."""
    gone = (CONFIG, WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX, ONNX, *STALE)
    with replaced_folder(out_dir, last=CONFIG, gone=gone) as folder:
        yield folder


def write_discriminator(model: Electra | MaskedLanguageModel, tokenizer: WordPiece, folder: Path) -> None:
    """What `save_discriminator` does, into a folder that is not yet read by anybody."""
    names = embedding_names() | body_names(model.shape, "discriminator")
    if isinstance(model, Electra):
        _write(model, names | replaced_head_names(), model.shape, "ElectraForPreTraining", tokenizer, folder)
    else:
        _write(model, names | masked_head_names(), model.shape, "ElectraForMaskedLM", tokenizer, folder)


def write_generator(model: Electra, tokenizer: WordPiece, folder: Path) -> None:
    """What `save_generator` does, into a folder that is not yet read by anybody."""
    names = embedding_names() | body_names(model.generator_shape, model.generator_name) | masked_head_names()
    _write(model, names, model.generator_shape, "ElectraForMaskedLM", tokenizer, folder)


def write_encoder(encoder: Encoder, tokenizer: WordPiece, folder: Path) -> None:
    """What `save_encoder` does, into a folder that is not yet read by anybody."""
    names = embedding_names() | body_names(encoder.shape, "body")
    _write(encoder, names, encoder.shape, "ElectraModel", tokenizer, folder)


def _write(
    model: nn.Module, names: Names, shape: EncoderShape, architecture: str, tokenizer: WordPiece, folder: Path
) -> None:
    _check_vocabulary(tokenizer, shape, "the model")
    parameters = dict(model.named_parameters())
    weights: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        tensor = parameters[ours].detach()
        tensor = tensor[: tokenizer.size] if ours in VOCABULARY_LONG else tensor
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            prefix = PREFIX if is_encoder(name) and architecture != "ElectraModel" else ""
            weights[prefix + name] = part.to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
    config = config_of(replace(shape, vocab=tokenizer.size), architecture=architecture, pad=tokenizer.special.pad)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")
    tokenizer.write(folder, model_max_length=shape.positions)


def _check_vocabulary(tokenizer: WordPiece, shape: EncoderShape, source: str) -> None:
    if tokenizer.size > shape.vocab:
        raise ValueError(
            f"the tokenizer has {tokenizer.size} pieces, but {source} has embeddings for {shape.vocab} only: there are "
            f"none for {_some(tokenizer.vocabulary[shape.vocab :])}. Take the tokenizer that the model was trained "
            f"with, or remove tokens that were added to it from its files."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + " ..." * (len(names) > 5)


@dataclass(frozen=True)
class _Saved:
    """A directory, read."""

    folder: Path
    shape: EncoderShape
    weights: dict[str, Tensor]  # by Hugging Face's names, without prefix


def _read(folder: Path) -> _Saved:
    shape = shape_of(read_config(folder), source=str(folder / CONFIG))
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in read_weights(folder).items()}
    weights.pop("embeddings.position_ids", None)  # older versions stored the numbers 0, 1, 2, …
    named = replace(shape, layers=min(shape.layers, len(weights) + 1))  # more cannot be there, whatever it claims
    known = {name for theirs in (embedding_names() | body_names(named, "body")).values() for name in theirs}
    if strange := sorted(name for name in weights if is_encoder(name) and name not in known):
        raise ValueError(
            f"{folder}: {CONFIG} does not speak of the weight {strange[0]!r} ({len(strange)} such): "
            f"{CONFIG} and the weights belong to different models."
        )
    return _Saved(folder, shape, weights)


def _check_encoder(saved: _Saved) -> None:
    """Raise ValueError where config.json asks for other weights than there are; nothing of that size is made."""
    if saved.shape.layers > len(saved.weights):  # their names alone would take for ever
        raise ValueError(
            f"{saved.folder}: {CONFIG} asks for {saved.shape.layers:,} layers, but there are {len(saved.weights)} "
            f"weights: the two files belong to different models."
        )
    names, expected = embedding_names() | body_names(saved.shape, "body"), encoder_shapes(saved.shape)
    _check_there(names, saved)
    for ours, theirs in names.items():
        rows = expected[ours][0] // len(theirs)
        if any(tuple(saved.weights[name].shape) != (rows, *expected[ours][1:]) for name in theirs):
            raise ValueError(_differing(saved, theirs[0]))


def _check_there(names: Names, saved: _Saved) -> None:
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


def _differing(saved: _Saved, name: str) -> str:
    return (
        f"{saved.folder}: {name!r} has shape {tuple(saved.weights[name].shape)}, which differs from what {CONFIG} "
        f"says: the two files belong to different models."
    )


def load_encoder(name: str) -> tuple[Encoder, WordPiece]:
    """Encoder and tokenizer of a directory (`ElectraModel` or with any head, or a run's model-last/) or a hub name.

    Raises FileNotFoundError where it or one of its files is missing, ValueError where it is no ELECTRA encoder.
    """
    saved = _read(find_discriminator(name))
    _check_encoder(saved)
    warn_of_generator(name, saved.shape, saved.weights)
    with building():
        encoder = Encoder(saved.shape)
        _fill(encoder, embedding_names() | body_names(saved.shape, "body"), saved)
    return encoder, _tokenizer(saved)


@building()
def load_electra(init: str, model: Network, *, tokenizer: WordPiece, generator: str | None = None) -> Network:
    """Fill `model` with pretrained weights, in place, and return it.

    init: a discriminator's directory or hub name, or a run's model-last/, which holds both halves. tokenizer: what
    `model` will be trained with. generator: where the other half is, looked for under a name like the discriminator's
    where None. What is not found keeps the values it has, and a warning says so. The shared embeddings are the
    discriminator's. The vocabulary of `model` may be longer than the saved one; its position table takes the saved
    length, so compare `model.shape.positions` with the window, and make the optimizer afterwards.
    Raises FileNotFoundError where a directory, name or file is missing, ValueError where shape or vocabulary differ.
    """
    saved = _read(find_discriminator(init))
    _check_encoder(saved)
    _check_shape(model.shape, saved)
    _check_same_pieces(_tokenizer(saved), tokenizer, saved.folder)
    _take_positions(model, saved.shape.positions)
    _fill(model, embedding_names() | body_names(saved.shape, "discriminator"), saved)
    if isinstance(model, MaskedLanguageModel):
        _fill_masked_head(model, saved)
    else:
        warn_of_generator(init, saved.shape, saved.weights)
        _fill_head(model, replaced_head_names(), saved)
        _load_generator(model, saved, find_generator(init, generator))
    return model


def _check_same_pieces(theirs: WordPiece, ours: WordPiece, folder: Path) -> None:
    """The same pieces of every text, whatever else the two files say."""
    if not cut_alike(theirs, ours):
        raise ValueError(
            f"the weights in {folder} belong to another vocabulary than the tokenizer ({difference(theirs, ours)}). "
            f"Set paths.tokenizer to {folder}, and make the store with it: tokenize --tokenizer {folder} --overwrite."
        )


def _load_generator(model: Electra, discriminator: _Saved, folder: Path | None) -> None:
    if folder is None:
        logger.warning(
            "no generator was found for the discriminator in %s: the generator starts from fresh weights.",
            discriminator.folder,
        )
        return
    saved = _read(folder)
    _check_shape(model.generator_shape, saved)
    if saved.shape.vocab != discriminator.shape.vocab:
        raise ValueError(
            f"{folder} knows {saved.shape.vocab} pieces and {discriminator.folder} {discriminator.shape.vocab}: "
            f"generator and discriminator must share one vocabulary. Give two halves of one pretraining."
        )
    shared = [name for theirs in embedding_names().values() for name in theirs]
    if different := [
        n for n in shared if n in saved.weights and not torch.equal(saved.weights[n], discriminator.weights[n])
    ]:
        logger.warning("%s: its %s are not used, the discriminator's are.", folder, ", ".join(different))
    if not model.is_tied:
        _fill(model, body_names(saved.shape, "generator"), saved)
    _fill_masked_head(model, saved)


def _check_shape(wanted: EncoderShape, saved: _Saved) -> None:
    """Everything must agree but the vocabulary, which may be padded, and the positions, which are taken over."""
    theirs = replace(saved.shape, positions=wanted.positions, vocab=max(wanted.vocab, saved.shape.vocab))
    if different := [name for name, number in vars(wanted).items() if number != vars(theirs)[name]]:
        told = ", ".join(f"{name}={vars(wanted)[name]} (saved: {vars(saved.shape)[name]})" for name in different)
        raise ValueError(
            f"the weights in {saved.folder} do not fit the model: {told}. Set [model] to the saved numbers."
        )


def _take_positions(model: Electra | MaskedLanguageModel, positions: int) -> None:
    """Give `model` a position table of the saved length, to be filled."""
    table = model.embeddings.position.weight
    if len(table) == positions:
        return
    logger.info("the position table has %d places, as it was saved, instead of %d.", positions, len(table))
    model.embeddings.position = nn.Embedding(positions, table.shape[1], device=table.device, dtype=table.dtype)
    model.shape = replace(model.shape, positions=positions)
    if isinstance(model, Electra):
        model.generator_shape = replace(model.generator_shape, positions=positions)


def _fill_masked_head(model: nn.Module, saved: _Saved) -> None:
    _fill_head(model, masked_head_names(), saved)
    (words,) = embedding_names()["embeddings.word.weight"]
    if (
        UNTIED in saved.weights
        and words in saved.weights
        and not torch.equal(saved.weights[UNTIED], saved.weights[words])
    ):
        logger.warning(
            "%s: its %s differs from its word embeddings and is not used: guesses are scored by the word embeddings, "
            "as in the paper.",
            saved.folder,
            UNTIED,
        )


def _fill_head(model: nn.Module, names: Names, saved: _Saved) -> None:
    """Fill a head where the directory has one; some have another head, or none."""
    if any(name in saved.weights for theirs in names.values() for name in theirs):
        _fill(model, names, saved)
    else:
        logger.warning("%s has no %s: it starts from fresh weights.", saved.folder, next(iter(names)).split(".")[0])


@torch.no_grad()
def _fill(model: nn.Module, names: Names, saved: _Saved) -> None:
    """Copy the named weights into `model`; a longer vocabulary keeps its own last rows."""
    _check_there(names, saved)
    parameters = dict(model.named_parameters())
    for ours, theirs in names.items():
        value = torch.cat([saved.weights[name] for name in theirs])
        room = parameters[ours][: saved.shape.vocab] if ours in VOCABULARY_LONG else parameters[ours]
        if room.shape != value.shape:
            raise ValueError(_differing(saved, theirs[0]))
        room.copy_(value)


def _tokenizer(saved: _Saved) -> WordPiece:
    tokenizer = WordPiece.load(saved.folder)
    _check_vocabulary(tokenizer, saved.shape, str(saved.folder))
    return tokenizer
