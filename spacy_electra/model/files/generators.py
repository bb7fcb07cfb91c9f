"""Warn if an ELECTRA generator is given in place of its discriminator.

Not every masked language model is a generator: pretraining with the objective "mlm" writes one as its discriminator.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from spacy_electra.model.network.encoder import EncoderShape

logger = logging.getLogger(__name__)

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


def warn_of_generator(name: str, shape: EncoderShape, weights: Collection[str]) -> None:
    """Log a warning if the model that was given as discriminator is a generator.

    name: its directory or hub name.
    weights: names of all its tensors, without prefix.
    """
    why = _why_generator(name, shape, weights)
    if why is not None:
        path = Path(name)
        other = path.with_name(path.name.replace(GENERATOR, DISCRIMINATOR))
        instead = f"Give {other.as_posix()} instead" if GENERATOR in path.name else "Give its discriminator instead"
        logger.warning(
            "%s is the generator of an ELECTRA (%s), a poor start: it is small and learned to guess words. %s.",
            name,
            why,
            instead,
        )


def _why_generator(name: str, shape: EncoderShape, weights: Collection[str]) -> str | None:
    """What says that it is a generator; None where nothing does."""
    heads = {weight.split(".")[0] for weight in weights}
    if "discriminator_predictions" in heads:
        return None
    if shape.width < shape.embedding:
        return f"its width {shape.width} is below the {shape.embedding} of the embeddings that it shares"
    if "generator_predictions" not in heads:
        return None
    path = Path(name)
    if GENERATOR in path.name:
        return "it has a generator's head and name"
    if path.name != DISCRIMINATOR and (path.parent / DISCRIMINATOR).is_dir():
        return "it has a generator's head, and its discriminator lies beside it"
    return None
