"""Which parts of a pipeline's encoders multiply bytes: as many as leave its scores what they are in float32.

What bytes do to a score is chance: they move a few decisions that were close, some to the better. So mixtures are
tried on annotated documents, as quantization with accuracy control does in NNCF (`quantize_with_accuracy_control`): all
in bytes first, then without one part after another, those first that err most for the products that they have.
"""

import gc
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from spacy_electra.model.encoder import EncoderShape
from spacy_electra.model.int8 import FEED_FORWARD, parts_of
from spacy_electra.model.precision import INT8
from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.transformer import encoder_of

ARCHITECTURES = ("spacy-electra.ElectraTransformer.", "spacy-electra.Tok2VecElectra.")
SAMPLE = 5_000  # words on which parts are compared
WARM_UP = 32  # documents
SPEED = "speed"  # which training may weigh, but is no score of the documents


@dataclass(frozen=True)
class Part:
    """Half a block of one encoder."""

    section: str  # of the config, that of the encoder
    name: str  # one of `model.int8.parts_of`


@dataclass(frozen=True)
class Weighed:
    """A part with what it does in bytes."""

    part: Part
    error: float  # 1 - mean cosine between vectors where it alone multiplies bytes and those where no part does
    products: int  # multiplications for each piece that can be of bytes


@dataclass(frozen=True)
class Mixture:
    """How the encoders of a pipeline predict."""

    precision: str
    excluded: tuple[Part, ...]
    share: float  # of the products by weights that are of bytes

    def names_in(self, section: str) -> list[str]:
        """What is excluded of one encoder."""
        return [part.name for part in self.excluded if part.section == section]


@dataclass(frozen=True)
class Scored:
    """What a pipeline made of some documents."""

    scores: dict[str, float]  # by name, between 0 and 1
    speed: float  # words per second of the clock
    docs: tuple[Doc, ...] = ()


def encoder_sections(nlp: Language) -> list[str]:
    """The sections of a pipeline's config that are encoders of this package, but those of disabled components."""
    components = nlp.config["components"]
    found = [_sections_below(components[name], f"components.{name}") for name in nlp.pipe_names]
    return [section for sections in found for section in sections]


def _sections_below(node: dict[str, Any], at: str) -> list[str]:
    if str(node.get("@architectures", "")).startswith(ARCHITECTURES):
        return [at]
    below = ((name, value) for name, value in node.items() if isinstance(value, dict))
    return [found for name, value in below for found in _sections_below(value, f"{at}.{name}")]


def encoder_in(nlp: Language, section: str) -> Model[list[Doc], Any]:
    """The thinc model of the encoder at a section of the config."""
    model = nlp.get_pipe(section.split(".")[1]).model  # type: ignore[attr-defined]
    return next(node for node in model.walk() if any(isinstance(shim, EncoderShim) for shim in node.shims))


def shim_in(nlp: Language, section: str) -> EncoderShim:
    return encoder_of(encoder_in(nlp, section))


def predict_in(nlp: Language, sections: Sequence[str], mixture: Mixture) -> None:
    """Let the encoders of a pipeline predict so from now on. Their config stays as it is: see `overrides_for`."""
    for section in sections:
        shim_in(nlp, section).set_precision(mixture.precision, int8_excluded=mixture.names_in(section))


def overrides_for(sections: Sequence[str], mixture: Mixture) -> dict[str, Any]:
    """What to change in a config, for `spacy.load`."""
    overrides: dict[str, Any] = {}
    for section in sections:
        overrides[f"{section}.precision"] = mixture.precision
        overrides[f"{section}.int8_excluded"] = mixture.names_in(section) or None
    return overrides


def parts_in(nlp: Language, sections: Sequence[str]) -> list[Part]:
    """The parts of all encoders, in the order of the config."""
    return [Part(at, name) for at in sections for name in parts_of(shim_in(nlp, at).shape.layers)]


def weigh_parts(nlp: Language, sections: Sequence[str], docs: Sequence[Doc]) -> Iterator[Weighed]:
    """Every part, with what its bytes do to the vectors of the first words of some documents."""
    some, words = [], 0
    for doc in docs:
        some.append(doc)
        words += len(doc)
        if words >= SAMPLE:
            break
    parts = parts_in(nlp, sections)
    for section in sections:
        encoder, shim = encoder_in(nlp, section), shim_in(nlp, section)
        names = [part.name for part in parts if part.section == section]
        shim.set_precision(INT8, int8_excluded=names)
        plain = np.asarray(encoder.predict(some).vectors)
        for name in names:
            shim.set_precision(INT8, int8_excluded=[other for other in names if other != name])
            moved = np.asarray(encoder.predict(some).vectors)
            yield Weighed(Part(section, name), 1.0 - _mean_cosine(plain, moved), products_of(shim.shape, name))


def products_of(shape: EncoderShape, name: str) -> int:
    """Multiplications of a part for each piece that can be of bytes.

    Those for queries, keys and values of the first block cannot.
    """
    if name.endswith(FEED_FORWARD):
        return 2 * shape.width * shape.feed_forward
    return (1 if name == parts_of(1)[0] else 4) * shape.width**2


def all_products(shape: EncoderShape) -> int:
    """Multiplications by weights for each piece, those that are never of bytes included."""
    projected = shape.embedding * shape.width if shape.embedding != shape.width else 0
    return projected + shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.feed_forward)


def in_bytes_but(nlp: Language, sections: Sequence[str], excluded: Sequence[Part] = ()) -> Mixture:
    """All parts of the encoders in bytes but some."""
    shapes = {section: shim_in(nlp, section).shape for section in sections}
    parts = [part for part in parts_in(nlp, sections) if part not in excluded]
    in_bytes = sum(products_of(shapes[part.section], part.name) for part in parts)
    return Mixture(INT8, tuple(excluded), in_bytes / sum(map(all_products, shapes.values())))


def exclusions(weighed: Sequence[Weighed]) -> Iterator[list[Part]]:
    """The parts to exclude: that which loses most for its products first, at last all but one."""
    order = [one.part for one in sorted(weighed, key=lambda one: -one.error / one.products)]
    return (order[:count] for count in range(1, len(order)))


def scored_names(config: dict[str, Any]) -> list[str]:
    """The scores that training weighs, [training.score_weights] above 0, but for the speed."""
    weights = config.get("training", {}).get("score_weights", {})
    return [name for name, weight in weights.items() if weight and name != SPEED]


def evaluate(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> Scored:
    """Annotate the documents of examples, which are changed, and score them as `Language.evaluate` does.

    Raises ValueError for scores that the documents do not give.
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


def is_within(scores: dict[str, float], reference: dict[str, float], *, points: float) -> bool:
    """True where no score is further from the reference than so many percentage points."""
    return all(abs(100 * (scores[name] - reference[name])) <= points + 1e-9 for name in reference)


def _mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = (one * other).sum(axis=1)
    return float((products / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).mean())
