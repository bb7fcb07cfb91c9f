"""The component that spacy-transformers brings, on the same weights or in the shape of a RoBERTa-base."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import spacy
import torch
from spacy.language import Language
from spacy.util import registry
from torch import nn
from transformers import AutoConfig, RobertaConfig, RobertaModel

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.pipeline.transformer import shim_of_transformer

COMPONENT = "transformer"  # name of the transformer in the pipelines that are compared
SPAN, SPAN_STEP = 128, 96  # words of a span, and from the start of one to that of the next, by default


def stock_model(directory: Path) -> dict[str, Any]:
    """spacy-transformers' model with its default spans, shorter where they would not fit the model.

    It cuts off the pieces of a span behind the positions that the model has, and half as many words mostly fit.
    """
    positions: int = AutoConfig.from_pretrained(directory).max_position_embeddings
    span = min(SPAN, positions // 2)
    return {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": str(directory),
        "tokenizer_config": {"use_fast": True},
        "get_spans": {
            "@span_getters": "spacy-transformers.strided_spans.v1",
            "window": span,
            "stride": span * SPAN_STEP // SPAN,
        },
    }


def with_stock(nlp: Language, directory: Path) -> Language:
    """Put spacy-transformers' own model, with the weights in `directory`, in the place of the transformer."""
    if COMPONENT in nlp.pipe_names:
        nlp.remove_pipe(COMPONENT)
    component: Any = nlp.add_pipe(COMPONENT, config={"model": stock_model(directory)}, first=True)
    component.model.initialize(X=[nlp.make_doc("Some words .")])
    nlp._link_components()
    return nlp


def write_roberta(tokenizer: WordPiece, directory: Path) -> None:
    """A model with random weights in the shape of RoBERTa-base, which reads the pieces of `tokenizer`."""
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, pad_token_id=tokenizer.special.pad)
    RobertaModel(config).save_pretrained(directory)
    tokenizer.save(directory, model_max_length=512)


def blank_with(model: dict[str, Any]) -> Language:
    """An English pipeline of a transformer alone."""
    nlp = spacy.blank("en")
    component: Any = nlp.add_pipe(COMPONENT, config={"model": model})
    component.model.initialize(X=[nlp.make_doc("Some words .")])
    return nlp


def transformer_of(nlp: Language) -> Any:
    return nlp.get_pipe(COMPONENT)


def is_ours(nlp: Language) -> bool:
    """Whether a pipeline's transformer is that of this package."""
    return bool(transformer_of(nlp).model.name == "electra_transformer")


def torch_module(nlp: Language) -> nn.Module:
    """The torch module that the stock transformer of a pipeline runs."""
    model = transformer_of(nlp).model
    inner = next(layer for layer in model.walk() if layer.shims and hasattr(layer.shims[0], "_model"))
    return cast(nn.Module, inner.shims[0]._model)


@contextmanager
def counted_slots(nlp: Language) -> Iterator[list[int]]:
    """While entered, the tokens (padding included) that the transformer computes for every batch."""
    counts: list[int] = []
    with _counting_ours(nlp, counts) if is_ours(nlp) else _counting_theirs(nlp, counts):
        yield counts


@contextmanager
def _counting_ours(nlp: Language, counts: list[int]) -> Iterator[None]:
    shim: Any = shim_of_transformer(transformer_of(nlp).model)
    predict = shim.predict

    def count(batch: PackedBatch) -> Any:
        counts.append(shim.predictor().computed_tokens(batch))
        return predict(batch)

    shim.predict = count  # of this shim alone, in front of the method of all
    try:
        yield
    finally:
        del shim.predict


@contextmanager
def _counting_theirs(nlp: Language, counts: list[int]) -> Iterator[None]:
    def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counts.append((args[0] if args else kwargs["input_ids"]).numel())

    hook = torch_module(nlp).register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def optimizer() -> Any:
    """What both pipelines are updated with; so small a rate that timing changes nothing that matters."""
    return registry.get("optimizers", "Adam.v1")(learn_rate=1e-6)
