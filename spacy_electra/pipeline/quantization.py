"""Score a pipeline, and measure its speed, in different precisions of its encoders."""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.transformer import shim_of_transformer

ARCHITECTURES = ("spacy-electra.ElectraTransformer.", "spacy-electra.Tok2VecElectra.")
WARM_UP = 32  # documents
SPEED = "speed"  # which training may weigh, but is no score of the documents


@dataclass(frozen=True)
class Scored:
    """Scores and speed of a pipeline on some documents, and its annotations."""

    scores: dict[str, float]  # by name, between 0 and 1
    speed: float  # words per second of the clock
    docs: tuple[Doc, ...] = ()


def encoder_sections(nlp: Language) -> list[str]:
    """The config sections of this package's encoders in a pipeline, without those of disabled components."""
    components = nlp.config["components"]
    found = [_sections_below(components[name], f"components.{name}") for name in nlp.pipe_names]
    return [section for sections in found for section in sections]


def _sections_below(node: dict[str, Any], at: str) -> list[str]:
    if str(node.get("@architectures", "")).startswith(ARCHITECTURES):
        return [at]
    below = ((name, value) for name, value in node.items() if isinstance(value, dict))
    return [found for name, value in below for found in _sections_below(value, f"{at}.{name}")]


def encoder_in(nlp: Language, section: str) -> Model[list[Doc], Any]:
    """The thinc model of the encoder that a section of the config describes."""
    model = nlp.get_pipe(section.split(".")[1]).model  # type: ignore[attr-defined]
    return next(node for node in model.walk() if any(isinstance(shim, EncoderShim) for shim in node.shims))


def shim_in(nlp: Language, section: str) -> EncoderShim:
    """The shim of the encoder that a section of the config describes."""
    return shim_of_transformer(encoder_in(nlp, section))


def predict_in(nlp: Language, sections: Sequence[str], precision: str) -> None:
    """Set the precision of a pipeline's encoders. The config does not change; `overrides_for` changes it.

    sections: as from `encoder_sections`.
    """
    for section in sections:
        shim = shim_in(nlp, section)
        shim.set_precision(precision, int8_excluded=shim.int8_excluded)


def overrides_for(sections: Sequence[str], precision: str) -> dict[str, Any]:
    """Config overrides for `spacy.load` that set the precision of the encoders."""
    return {f"{section}.precision": precision for section in sections}


def scored_names(config: dict[str, Any]) -> list[str]:
    """The scores with a weight in [training.score_weights], without the speed."""
    weights = config.get("training", {}).get("score_weights", {})
    return [name for name, weight in weights.items() if weight and name != SPEED]


def score_pipeline(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> Scored:
    """Annotate documents, and score them as `Language.evaluate` does.

    examples: their predicted documents are replaced by the annotated ones.
    names: the scores to return.
    Raises ValueError if the documents do not give one of these scores.
    """
    list(nlp.pipe(example.text for example in examples[:WARM_UP]))  # weights are packed before the clock runs
    gc.collect()  # what trials before this one left
    begin = perf_counter()
    for example, doc in zip(examples, nlp.pipe(example.predicted for example in examples), strict=True):
        example.predicted = doc
    seconds = perf_counter() - begin
    found = Scorer(nlp).score(examples)
    numbers = {key: value for key, value in found.items() if isinstance(value, float) and math.isfinite(value)}
    for name in names:
        if name not in numbers:
            raise ValueError(
                f"the documents give no score {name!r}: they lack its annotation, or the pipeline a component for it. "
                f"They give {', '.join(numbers)}: name those to keep with --scores."
            )
    docs = tuple(example.predicted for example in examples)
    return Scored({name: numbers[name] for name in names}, sum(map(len, docs)) / seconds, docs)
