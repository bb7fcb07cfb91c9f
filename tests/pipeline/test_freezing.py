"""What is frozen stays to the last bit, what is not moves, and a layer's rate is the share that it should be."""

from collections.abc import Callable

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from torch import Tensor

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.transformer import shim_of_transformer

ExamplesOf = Callable[[Language], list[Example]]
STEPS = 3


def weights(nlp: Language) -> dict[str, Tensor]:
    module = shim_of_transformer(nlp.get_pipe("transformer").model).module
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def moved(nlp: Language, examples: list[Example], *, learn_rate: float = 1e-3, layer_decay: float | None = None):
    """How far each parameter went in a few steps, on average over its numbers."""
    optimizer = adamw_v1(learn_rate, L2=0.0, grad_clip=0.0, layer_decay=layer_decay)
    nlp.update(examples, sgd=optimizer)  # spaCy's head begins with zeros: nothing reaches the encoder in this one
    before = weights(nlp)
    for _ in range(STEPS):
        nlp.update(examples, sgd=optimizer)
    return {name: float((after - before[name]).abs().mean()) for name, after in weights(nlp).items()}


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, ()),
        ({"freeze_embeddings": True}, ("embeddings.",)),
        ({"freeze_layers": 1}, ("embeddings.", "body.project.", "body.blocks.0.")),
        ({"freeze_layers": 2}, ("embeddings.", "body.project.", "body.blocks.0.", "body.blocks.1.")),
    ],
)
def test_frozen_parameters_stay_and_all_others_move(
    make_nlp: Callable[..., Language], examples_of: ExamplesOf, settings: dict[str, object], frozen: tuple[str, ...]
) -> None:
    nlp = make_nlp(**settings)
    for name, distance in moved(nlp, examples_of(nlp)).items():
        if name.startswith(frozen) if frozen else False:
            assert distance == 0, name
        elif "token_type" not in name and not name.endswith("qkv.bias"):  # keys' biases have no gradient
            assert distance > 0, name


def test_freezing_survives_saving_and_loading(
    make_nlp: Callable[..., Language], examples_of: ExamplesOf, tmp_path
) -> None:
    make_nlp(freeze_layers=1).to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    distances = moved(nlp, examples_of(nlp))
    assert distances["body.blocks.0.feed_forward.up.weight"] == 0
    assert distances["body.blocks.1.feed_forward.up.weight"] > 0


def test_each_layer_moves_at_its_share_of_the_rate_of_the_one_above(
    make_nlp: Callable[..., Language], examples_of: ExamplesOf
) -> None:
    nlp = make_nlp()
    full = moved(nlp, examples_of(nlp), learn_rate=1e-6)
    nlp = make_nlp()
    less = moved(nlp, examples_of(nlp), learn_rate=1e-6, layer_decay=0.5)
    shares = {"body.blocks.1.": 0.5, "body.blocks.0.": 0.25, "embeddings.word": 0.125}
    for prefix, share in shares.items():
        name = next(name for name in full if name.startswith(prefix) and name.endswith("weight"))
        assert less[name] / full[name] == pytest.approx(share, rel=0.1), name


def test_activation_checkpointing_changes_no_step(make_nlp: Callable[..., Language], examples_of: ExamplesOf) -> None:
    ends = []
    for is_used in (False, True):
        nlp = make_nlp(activation_checkpointing=is_used, dropout=0.1)
        assert shim_of_transformer(nlp.get_pipe("transformer").model).module.body.is_recomputed is is_used
        torch.manual_seed(0)
        moved(nlp, examples_of(nlp))
        ends.append(weights(nlp))
    for name, end in ends[0].items():
        torch.testing.assert_close(ends[1][name], end, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (-1, "at least 0, but got -1"),
        (3, "the model's 2 layers, but got 3"),
        (3, "`python -m spacy electra init-config OUT_DIR --frozen`"),
    ],
)
def test_layers_that_are_not_there_cannot_be_frozen(
    make_nlp: Callable[..., Language], layers: int, message: str
) -> None:
    with pytest.raises(ValueError, match="freeze_layers") as raised:
        make_nlp(freeze_layers=layers)
    assert message in str(raised.value)
