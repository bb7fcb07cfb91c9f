"""Change the layers or the vocabulary of a saved model. Takes one that was read, returns another; pure."""

import re
from collections.abc import Sequence
from dataclasses import replace

from spacy_electra.model.files.saved_model import SavedModel
from spacy_electra.model.init.transplant import Transplant

UNTIED = "generator_lm_head.weight"  # the word embeddings once more; Hugging Face can let it have other numbers
WORDS, BIAS = "embeddings.word_embeddings.weight", "generator_lm_head.bias"


def with_layers(saved: SavedModel, chosen: Sequence[int]) -> SavedModel:
    """The same model with the chosen layers, by numbers from 0, in this order; a layer may be repeated."""
    weights = {name: tensor for name, tensor in saved.weights.items() if not name.startswith("encoder.layer.")}
    for place, number in enumerate(chosen):
        old = re.compile(rf"encoder\.layer\.{number}\.")
        weights |= {
            old.sub(f"encoder.layer.{place}.", name, count=1): tensor
            for name, tensor in saved.weights.items()
            if old.match(name)
        }
    return replace(saved, weights=weights, shape=replace(saved.shape, layers=len(chosen)))


def cut_to(saved: SavedModel, size: int) -> SavedModel:
    """The same model with its tables cut to `size`, the number of pieces of the tokenizer."""
    weights = {
        name: tensor[:size] if name in (WORDS, BIAS, UNTIED) else tensor for name, tensor in saved.weights.items()
    }
    return replace(saved, weights=weights, shape=replace(saved.shape, vocab=min(size, saved.shape.vocab)))


def with_vocabulary(saved: SavedModel, found: Transplant, *, old_size: int) -> SavedModel:
    """The same model for another vocabulary: word embeddings, and the biases of the masked-LM head.

    old_size: number of pieces of the old tokenizer; the tables may be longer.
    """
    weights = dict(saved.weights)
    for name in (WORDS, BIAS, UNTIED):
        if name in weights:
            weights[name] = found.means(weights[name][:old_size])
    return replace(saved, weights=weights, shape=replace(saved.shape, vocab=len(found.sources)))
