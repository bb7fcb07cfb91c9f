"""Which parts of a pipeline's encoders multiply bytes: as many as leave its scores what they are in float32.

What bytes do to a score is chance: they move a few decisions that were close, some to the better. So mixtures are
tried on annotated documents, as quantization with accuracy control does in NNCF (`quantize_with_accuracy_control`): all
in bytes first, then without one part after another, those first that err most for the products that they have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from spacy_electra.model.int8 import FEED_FORWARD, parts_of
from spacy_electra.model.precision import INT8
from spacy_electra.pipeline.encoder import EncoderShim

ARCHITECTURES = ("spacy-electra.ElectraTransformer.", "spacy-electra.Tok2VecElectra.")
SAMPLE = 5_000  # words on which parts are compared
WARM_UP = 32  # documents
SPEED = "speed"  # among spaCy's scores: words per second of the clock


@dataclass(frozen=True)
class Part:
    """Half a block of one encoder."""

    section: str  # of the config, that of the encoder
    name: str  # one of `model.int8.parts_of`


@dataclass(frozen=True)
class Weighed:
    """A part with what it does in bytes."""

    part: Part
    error: float  # 1 - mean cosine between vectors where it alone multiplies bytes and those where nothing does
    products: int  # multiplications by weights for each piece


@dataclass(frozen=True)
class Trial:
    """A pipeline with all parts in bytes but some, scored."""

    excluded: tuple[Part, ...]
    share: float  # of the products by weights that are of bytes
    scores: dict[str, float]
    words_per_second: float


def encoder_sections(config: dict[str, Any], *, at: str = "components") -> list[str]:
    """Names of the sections of a pipeline's config that are encoders of this package."""
    node = config
    for name in at.split("."):
        node = node[name]
    if str(node.get("@architectures", "")).startswith(ARCHITECTURES):
        return [at]
    below = (name for name, value in node.items() if isinstance(value, dict))
    return [found for name in below for found in encoder_sections(config, at=f"{at}.{name}")]


def load_with(path: str | Path, sections: Sequence[str], precision: str, excluded: Sequence[Part] = ()) -> Language:
    """The pipeline at a path, or of an installed package, its encoders in this precision."""
    overrides: dict[str, Any] = {}
    for section in sections:
        names = [part.name for part in excluded if part.section == section]
        overrides[f"{section}.precision"], overrides[f"{section}.int8_excluded"] = precision, names or None
    return spacy.load(path, config=overrides)


def encoder_in(nlp: Language, section: str) -> Model[list[Doc], Any]:
    """The thinc model of the encoder at a section of the config."""
    model = nlp.get_pipe(section.split(".")[1]).model  # type: ignore[attr-defined]
    return next(node for node in model.walk() if any(isinstance(shim, EncoderShim) for shim in node.shims))


def weigh_parts(path: str | Path, sections: Sequence[str], docs: Sequence[Doc]) -> Iterator[Weighed]:
    """Every part of the encoders, in the order of the config, with what its bytes do to the vectors of some words."""
    some, words = [], 0
    for doc in docs:
        some.append(doc)
        words += len(doc)
        if words >= SAMPLE:
            break
    nlp = load_with(path, sections, "auto")
    for section in sections:
        encoder = encoder_in(nlp, section)
        shape = encoder.shims[0].shape  # type: ignore[attr-defined]
        plain = np.asarray(encoder.predict(some).vectors)
        everything = [Part(section, name) for name in parts_of(shape.layers)]
        for part in everything:
            others = [other for other in everything if other != part]
            moved = np.asarray(encoder_in(load_with(path, sections, INT8, others), section).predict(some).vectors)
            inner = 2 * shape.feed_forward if part.name.endswith(FEED_FORWARD) else 4 * shape.width
            yield Weighed(part, error=1.0 - _mean_cosine(plain, moved), products=shape.width * inner)


def mixtures(weighed: Sequence[Weighed]) -> Iterator[tuple[tuple[Part, ...], float]]:
    """The parts to exclude, none first and all last, and what share of the products is of bytes then."""
    order = sorted(weighed, key=lambda one: -one.error / one.products)
    total = sum(one.products for one in order)
    for count in range(len(order) + 1):
        yield tuple(one.part for one in order[:count]), sum(one.products for one in order[count:]) / total


def scored_names(config: dict[str, Any]) -> list[str]:
    """The scores that training weighs, [training.score_weights] above 0."""
    weights = config.get("training", {}).get("score_weights", {})
    return [name for name, weight in weights.items() if weight]


def evaluate(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> tuple[dict[str, float], float]:
    """Scores by name, between 0 and 1, and words per second. Raises ValueError for what the documents do not tell."""
    list(nlp.pipe(example.text for example in examples[:WARM_UP]))  # weights are packed before the clock runs
    found = nlp.evaluate(examples)
    for name in names:
        if not isinstance(found.get(name), float):
            known = ", ".join(key for key, value in found.items() if isinstance(value, float) and key != SPEED)
            raise ValueError(
                f"the documents give no score {name!r}: they lack its annotation, or the pipeline a component for it. "
                f"They give {known}: name those to keep with --scores."
            )
    return {name: found[name] for name in names}, found[SPEED]


def is_within(scores: dict[str, float], reference: dict[str, float], *, points: float) -> bool:
    """True where no score is further from the reference than so many percentage points."""
    return all(abs(100 * (scores[name] - reference[name])) <= points + 1e-9 for name in reference)


def _mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = (one * other).sum(axis=1)
    return float((products / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).mean())
