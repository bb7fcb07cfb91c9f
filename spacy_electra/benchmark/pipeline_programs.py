"""The programs of `benchmark pipeline`. Each is built from a source and texts only, so any process can build it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_electra.benchmark.measure import Program, Step
from spacy_electra.benchmark.stock import (
    COMPONENT,
    blank_with,
    counted_slots,
    is_ours,
    optimizer,
    torch_module,
    transformer_of,
    with_stock,
)
from spacy_electra.model.files.hub import find_discriminator
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.precision import NAMES
from spacy_electra.pipeline.transformer import shim_of_transformer

BATCH = 256  # documents that are handed to a component at once, `nlp.batch_size` of the generated configs
UPDATED = 48  # documents of a training step


@dataclass(frozen=True)
class PipelineSource:
    """Where a process loads a pipeline from."""

    pipeline: str | None  # on disk, or an ELECTRA discriminator; None for a transformer alone, which is a stock one
    stock: Path | None = None  # weights for spacy-transformers' own model in the place of ours

    @property
    def is_whole(self) -> bool:
        """True for a saved pipeline, false for a transformer alone."""
        return self.pipeline is not None and (Path(self.pipeline) / "meta.json").is_file()

    def open(self) -> Language:
        """Load the pipeline. Raises ValueError if it has no transformer of this package."""
        if self.stock is not None:
            others = spacy.load(str(self.pipeline), exclude=[COMPONENT]) if self.is_whole else spacy.blank("en")
            return with_stock(others, self.stock)
        assert self.pipeline is not None
        if not self.is_whole:
            try:
                found = find_discriminator(self.pipeline)
                load_encoder(str(found))
            except (FileNotFoundError, ValueError) as error:
                raise ValueError(f"{error} Or give a spaCy pipeline's folder, which holds a meta.json.") from error
            return blank_with({"@architectures": "spacy-electra.ElectraTransformer.v2", "name": str(found)})
        nlp = spacy.load(self.pipeline)
        if COMPONENT not in nlp.pipe_names or not is_ours(nlp):
            raise ValueError(
                f"{self.pipeline} has no component {COMPONENT!r} with spacy-electra.ElectraTransformer.v2."
            )
        return nlp


def component(source: PipelineSource, texts: list[str], *, batch: int = BATCH) -> Step:
    """A program that runs the transformer alone; its units are words.

    batch: as for `component_step`.
    """
    nlp = source.open()
    return Program(component_step(nlp, texts, batch=batch), pipeline_facts(nlp))


def whole(source: PipelineSource, texts: list[str]) -> Step:
    """A program that runs the whole pipeline; its units are words."""
    nlp = source.open()
    return Program(lambda: float(sum(len(doc) for doc in nlp.pipe(texts, batch_size=BATCH))), pipeline_facts(nlp))


def update(source: PipelineSource, texts: list[str]) -> Step:
    """A program that updates all components on the first texts, with their own annotations as gold."""
    nlp = source.open()
    return Program(update_step(nlp, texts[:UPDATED]), pipeline_facts(nlp, in_training=True))


def component_step(nlp: Language, texts: list[str], *, batch: int = BATCH) -> Step:
    """A step that runs the transformer alone over the texts; its units are words. spaCy's tokenizer is not timed.

    batch: documents passed to `pipe` at once, of which it makes batches of similar lengths.
    """
    transformer, docs = transformer_of(nlp), [nlp.make_doc(text) for text in texts]
    words = float(sum(map(len, docs)))

    def step() -> float:
        for doc in transformer.pipe(docs, batch_size=batch):
            doc._.trf_data = None  # as if the document were done with
        return words

    return step


def update_step(nlp: Language, texts: list[str]) -> Step:
    """A step that updates all components on the texts, with their own annotations as gold; its units are words."""
    annotated: list[Doc] = list(nlp.pipe(texts))
    for doc in annotated:
        doc.cats = certain(doc.cats)
    sgd: Any = optimizer()

    def step() -> float:
        examples = [Example(nlp.make_doc(doc.text), doc) for doc in annotated]
        nlp.update(examples, sgd=sgd, drop=0.1)
        return float(sum(map(len, annotated)))

    return step


def certain(cats: dict[str, float]) -> dict[str, float]:
    """Categories as gold: 1 for the category with the highest score, 0 for all others."""
    likely = max(cats, key=lambda name: cats[name], default=None)
    return {name: float(name == likely) for name in cats}


def slots_of(nlp: Language, texts: list[str]) -> int:
    """Tokens that the transformer computes for the texts, padding and overlap of windows included."""
    with counted_slots(nlp) as counts:
        component_step(nlp, texts)()
    return sum(counts)


def pipeline_facts(nlp: Language, *, in_training: bool = False) -> dict[str, str]:
    """Backend of our transformer, or its precision in training; precision and attention of the stock transformer."""
    if is_ours(nlp):
        choice = shim_of_transformer(transformer_of(nlp).model).choice
        return {"precision": NAMES[choice.training]} if in_training else {"backend": choice.prediction.value}
    module: Any = torch_module(nlp)
    inner = getattr(module, "transformer", module)
    return {"precision": NAMES[next(inner.parameters()).dtype], "attention": inner.config._attn_implementation}
