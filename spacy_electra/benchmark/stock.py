"""The transformer component of spacy-transformers, with the same weights or in the shape of RoBERTa-base."""

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
    """Config of spacy-transformers' model with its default spans, shortened if they may not fit the model.

    Pieces of a span beyond the model's positions are cut off. Spans of half as many words mostly fit.
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
    """Replace a pipeline's transformer by spacy-transformers' own, with the weights in `directory`; returns `nlp`."""
    if COMPONENT in nlp.pipe_names:
        nlp.remove_pipe(COMPONENT)
    component: Any = nlp.add_pipe(COMPONENT, config={"model": stock_model(directory)}, first=True)
    component.model.initialize(X=[nlp.make_doc("Some words .")])
    nlp._link_components()
    return nlp


def write_roberta(tokenizer: WordPiece, directory: Path) -> None:
    """Write a model with random weights in the shape of RoBERTa-base, with this tokenizer."""
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, pad_token_id=tokenizer.special.pad)
    RobertaModel(config).save_pretrained(directory)
    tokenizer.save(directory, model_max_length=512)


def blank_with(model: dict[str, Any]) -> Language:
    """An English pipeline with a transformer only.

    model: config of the transformer's model.
    """
    nlp = spacy.blank("en")
    component: Any = nlp.add_pipe(COMPONENT, config={"model": model})
    component.model.initialize(X=[nlp.make_doc("Some words .")])
    return nlp


def transformer_of(nlp: Language) -> Any:
    """The transformer component of a pipeline."""
    return nlp.get_pipe(COMPONENT)


def is_ours(nlp: Language) -> bool:
    """Whether a pipeline's transformer is that of this package."""
    return bool(transformer_of(nlp).model.name == "electra_transformer")


def torch_module(nlp: Language) -> nn.Module:
    """The torch module in a pipeline's stock transformer."""
    model = transformer_of(nlp).model
    inner = next(layer for layer in model.walk() if layer.shims and hasattr(layer.shims[0], "_model"))
    return cast(nn.Module, inner.shims[0]._model)


@contextmanager
def counted_slots(nlp: Language) -> Iterator[list[int]]:
    """Until the block ends, count the tokens, padding included, that the transformer computes for each batch."""
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
    """The optimizer of both pipelines, with a rate so low that timed updates hardly change the weights."""
    return registry.get("optimizers", "Adam.v1")(learn_rate=1e-6)
