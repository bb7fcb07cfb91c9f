"""Load pretrained weights from a directory or the hub, as an encoder or into a model for pretraining.

Takes ELECTRA, BERT and DistilBERT (`families.py`), another vocabulary (`transplant.py`) and another depth.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from spacy_electra.data.tokenizer.difference import cut_alike, difference
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.generators import warn_of_generator
from spacy_electra.model.files.hub import find_discriminator, find_generator
from spacy_electra.model.files.names import (
    ParameterNames,
    body_names,
    embedding_names,
    masked_head_names,
    replaced_head_names,
)
from spacy_electra.model.files.saved_model import (
    SavedModel,
    are_equal,
    check_encoder,
    fill,
    has_own_body,
    read_model,
    tokenizer_of,
    with_body,
)
from spacy_electra.model.init.reshape import UNTIED, WORDS, cut_to, with_layers, with_vocabulary
from spacy_electra.model.init.transplant import transplant
from spacy_electra.model.isolation import building
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.network.encoder import Encoder, EncoderShape

logger = logging.getLogger(__name__)

MASKED_HEAD = "masked_head"
MOSTLY = 0.5  # of the pieces: with fewer copied, the weights are of another language
ADJUSTABLE = ("layers", "positions", "types", "vocab")  # numbers that a model may have otherwise than the weights

_Network = TypeVar("_Network", bound=Electra | MaskedLanguageModel)


def load_encoder(name: str) -> tuple[Encoder, WordPiece]:
    """Encoder and tokenizer of a model, with or without heads.

    name: a directory, a run's model-last/, or a hub name.
    Raises FileNotFoundError if it or one of its files is missing, ValueError for another kind of encoder.
    """
    saved = read_model(find_discriminator(name))
    check_encoder(saved)
    warn_of_generator(name, saved.shape, saved.weights)
    with building():
        encoder = Encoder(saved.shape)
        fill(encoder, embedding_names() | body_names(saved.shape, "body"), saved)
    return encoder, tokenizer_of(saved)


@building()
def load_electra(
    init: str,
    model: _Network,
    *,
    tokenizer: WordPiece,
    generator: str | None = None,
    layers: Sequence[int] | None = None,
) -> list[str]:
    """Copy pretrained weights into `model`, in place; returns the names of the parts that keep their initial weights.

    A warning names each part that is not found. The shared embeddings are the discriminator's. The tables of positions
    and types take the saved length, so compare `model.shape.positions` with the window, and make the optimizer
    afterwards.

    init: a discriminator's directory or hub name, or a run's model-last/, which holds both halves.
    tokenizer: of the training of `model`; if it differs from that of the weights, embeddings are transplanted.
    generator: directory or hub name of the generator; None looks for a name like the discriminator's.
    layers: numbers, from 0, of the saved layers to use. None uses the lowest, and repeats all of them if `model` has
        more.
    Raises FileNotFoundError if a directory, name or file is missing, ValueError if the shape differs.
    """
    saved = read_model(find_discriminator(init))
    check_encoder(saved)
    chosen = _adapt_vocabulary(_choose_layers(saved, model.shape.layers, layers), tokenizer)
    _check_shape(model.shape, chosen)
    take_tables(model, positions=chosen.shape.positions, types=chosen.shape.types)
    fill(model, embedding_names() | body_names(chosen.shape, "discriminator"), chosen)
    if isinstance(model, MaskedLanguageModel):
        return _fill_masked_head(model, chosen)
    warn_of_generator(init, saved.shape, saved.weights)
    fresh = _fill_head(model, replaced_head_names(), chosen)
    return fresh + _load_generator(model, saved, find_generator(init, generator), tokenizer)


def _choose_layers(saved: SavedModel, wanted: int, chosen: Sequence[int] | None = None) -> SavedModel:
    """`wanted` of the layers: those of `chosen`, or the lowest; all again and again where there are fewer.

    Raises ValueError where `chosen` names other numbers of layers than there are.
    """
    there = saved.shape.layers
    if chosen is None:
        chosen = [number % there for number in range(wanted)]
    if len(chosen) != wanted or not all(0 <= number < there for number in chosen):
        raise ValueError(
            f"[model] init_layers must name {wanted} of the {there} layers in {saved.folder} by numbers from 0 to "
            f"{there - 1}, but is {list(chosen)}: [model.discriminator] layers says how many."
        )
    if list(chosen) == list(range(there)):
        return saved
    logger.warning("%s has %d layers: the model takes %s.", saved.folder, there, ", ".join(map(str, chosen)))
    return with_layers(saved, chosen)


def _adapt_vocabulary(saved: SavedModel, tokenizer: WordPiece) -> SavedModel:
    """The same model for another vocabulary; says how many pieces could be copied."""
    theirs = tokenizer_of(saved)
    if cut_alike(theirs, tokenizer):
        return cut_to(saved, theirs.size)
    found = transplant(theirs, tokenizer)
    logger.warning("%s has another vocabulary (%s): %s.", saved.folder, difference(theirs, tokenizer), found)
    if found.copied < MOSTLY * tokenizer.size:
        logger.warning(
            "fewer than half of the pieces are known to %s: pretraining must be long enough to learn the others. Is it "
            "of the same language as the tokenizer?",
            saved.folder,
        )
    return with_vocabulary(saved, found, old_size=theirs.size)


def _load_generator(model: Electra, discriminator: SavedModel, folder: Path | None, tokenizer: WordPiece) -> list[str]:
    if folder is None:
        return _begin_generator(model, discriminator, tokenizer)
    saved = read_model(folder)
    if saved.shape.vocab != discriminator.shape.vocab:
        raise ValueError(
            f"{folder} knows {saved.shape.vocab} pieces and {discriminator.folder} {discriminator.shape.vocab}: "
            f"generator and discriminator must share one vocabulary. Give two halves of one pretraining."
        )
    shared = [name for theirs in embedding_names().values() for name in theirs]
    if different := [
        n for n in shared if n in saved.weights and not are_equal(saved.weights[n], discriminator.weights[n])
    ]:
        logger.warning("%s: its %s are not used, the discriminator's are.", folder, ", ".join(different))
    if model.is_tied and has_own_body(saved, discriminator):
        logger.warning(
            "%s has a body of its own, but this model guesses with the discriminator's: %s starts from fresh weights.",
            folder,
            MASKED_HEAD,
        )
        return [MASKED_HEAD]
    if not model.is_tied:
        saved = with_body(saved, discriminator)
        saved = _choose_layers(saved, model.generator_shape.layers)
        _check_shape(model.generator_shape, saved)
        fill(model, body_names(saved.shape, "generator"), saved)
    return _fill_masked_head(model, _with_its_vocabulary(saved, discriminator, tokenizer))


def _with_its_vocabulary(saved: SavedModel, discriminator: SavedModel, tokenizer: WordPiece) -> SavedModel:
    """A generator for another vocabulary; its folder need not hold the tokenizer that it shares."""
    theirs = tokenizer_of(discriminator)
    if cut_alike(theirs, tokenizer):
        return cut_to(saved, theirs.size)
    return with_vocabulary(saved, transplant(theirs, tokenizer), old_size=theirs.size)


def _begin_generator(model: Electra, discriminator: SavedModel, tokenizer: WordPiece) -> list[str]:
    """Where no generator was saved: the discriminator's lowest layers and masked head, as far as they are there."""
    folder, shape = discriminator.folder, model.generator_shape
    is_deeper = not model.is_tied and shape.layers > discriminator.shape.layers
    if _differing_numbers(shape, discriminator.shape) or is_deeper:
        logger.warning(
            "no generator was found for the discriminator in %s: the generator starts from fresh weights.", folder
        )
        return ["generator", MASKED_HEAD]
    if not model.is_tied:
        logger.warning(
            "no generator was found for the discriminator in %s: it starts from the lowest %d of its layers.",
            folder,
            shape.layers,
        )
        lowest = with_layers(discriminator, range(shape.layers))
        fill(model, body_names(lowest.shape, "generator"), lowest)
    return _fill_masked_head(model, _with_its_vocabulary(discriminator, discriminator, tokenizer))


def _differing_numbers(wanted: EncoderShape, theirs: EncoderShape) -> list[str]:
    return [name for name in vars(wanted) if name not in ADJUSTABLE and vars(wanted)[name] != vars(theirs)[name]]


def _check_shape(wanted: EncoderShape, saved: SavedModel) -> None:
    """Everything must agree but what can be transplanted, chosen or taken over."""
    if different := _differing_numbers(wanted, saved.shape):
        told = ", ".join(f"{name}={vars(wanted)[name]} (saved: {vars(saved.shape)[name]})" for name in different)
        raise ValueError(
            f"the weights in {saved.folder} do not fit the model: {told}. Set [model] to the saved numbers, or let a "
            f"model of another width follow these weights as its [teacher]."
        )


def take_tables(model: Electra | MaskedLanguageModel, *, positions: int, types: int) -> None:
    """Give `model` uninitialized tables of this many positions and token types."""
    tables = {"positions": ("position", positions), "types": ("token_type", types)}
    for number, (name, rows) in tables.items():
        table = model.embeddings.get_submodule(name)
        assert isinstance(table, nn.Embedding)
        if table.num_embeddings == rows:
            continue
        logger.info("the table of %s has %d rows, as it was saved, instead of %d.", number, rows, table.num_embeddings)
        new = nn.Embedding(rows, table.embedding_dim, device=table.weight.device, dtype=table.weight.dtype)
        setattr(model.embeddings, name, new)
        model.shape = replace(model.shape, **{number: rows})
        if isinstance(model, Electra):
            model.generator_shape = replace(model.generator_shape, **{number: rows})


def _fill_masked_head(model: nn.Module, saved: SavedModel) -> list[str]:
    fresh = _fill_head(model, masked_head_names(), saved)
    scores, words = saved.weights.get(UNTIED), saved.weights.get(WORDS)
    if scores is not None and words is not None and not are_equal(scores, words):
        logger.warning(
            "%s: its %s differs from its word embeddings and is not used: guesses are scored by the word embeddings, "
            "as in the paper.",
            saved.folder,
            UNTIED,
        )
    return fresh


def _fill_head(model: nn.Module, names: ParameterNames, saved: SavedModel) -> list[str]:
    """Fill a head where the directory has one; some have another head, or none. Its name where it has not."""
    if saved.has(names):
        fill(model, names, saved)
        return []
    head = next(iter(names)).split(".")[0]
    logger.warning("%s has no %s: it starts from fresh weights.", saved.folder, head)
    return [head]
