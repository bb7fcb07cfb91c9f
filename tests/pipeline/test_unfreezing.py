"""The encoder begins frozen and learns block by block from the top, and no moment is lost on the way."""

from collections.abc import Callable

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from thinc.api import Optimizer
from torch import Tensor

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.transformer import shim_of_transformer

MakeNlp = Callable[..., Language]
ExamplesOf = Callable[[Language], list[Example]]
TOP, BOTTOM, PROJECTION, EMBEDDINGS = "body.blocks.1.", "body.blocks.0.", "body.project.", "embeddings."
EVERY = 2  # steps from one stage to the next


def shim_of(nlp: Language) -> EncoderShim:
    return shim_of_transformer(nlp.get_pipe("transformer").model)


def weights(nlp: Language) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in shim_of(nlp).module.named_parameters()}


def moved_parts(nlp: Language, examples: list[Example], optimizer: Optimizer) -> set[str]:
    """Which parts of the encoder one update changes; raises where it changes only some norms or matrices of one."""
    before = weights(nlp)
    nlp.update(examples, sgd=optimizer)
    moved = {name: not torch.equal(after, before[name]) for name, after in weights(nlp).items()}
    del moved["embeddings.token_type.weight"]  # of its two rows the second is never read
    parts = {}
    for part in (TOP, BOTTOM, PROJECTION, EMBEDDINGS):
        (parts[part],) = {moved[name] for name in moved if name.startswith(part)}
    return {part for part, has_moved in parts.items() if has_moved}


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, [set(), {TOP}, {TOP, BOTTOM}, {TOP, BOTTOM, PROJECTION, EMBEDDINGS}]),
        ({"freeze_embeddings": True}, [set(), {TOP}, {TOP, BOTTOM}, {TOP, BOTTOM, PROJECTION}]),
        ({"freeze_layers": 1}, [set(), {TOP}, {TOP}, {TOP}]),
        ({"freeze_layers": 2}, [set(), set(), set(), set()]),
    ],
)
def test_one_more_block_learns_after_so_many_steps_and_at_last_the_embeddings(
    make_nlp: MakeNlp, examples_of: ExamplesOf, settings: dict[str, object], stages: list[set[str]]
) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=EVERY, **settings), adamw_v1(1e-3)
    examples = examples_of(nlp)
    for step in range(EVERY * (len(stages) + 1)):
        assert moved_parts(nlp, examples, optimizer) == stages[min(step // EVERY, len(stages) - 1)], step


def test_accumulated_gradients_count_as_one_step(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=EVERY), adamw_v1(1e-3)
    before, examples = weights(nlp), examples_of(nlp)
    for _ in range(EVERY):
        for part in (examples[:1], examples[1:2], examples[2:]):
            nlp.update(part, sgd=False)
        for _, component in nlp.pipeline:
            component.finish_update(optimizer)
    assert all(torch.equal(after, before[name]) for name, after in weights(nlp).items())
    assert moved_parts(nlp, examples, optimizer) == {TOP}


def test_moments_go_on_where_a_block_joins(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=EVERY), adamw_v1(1e-3, grad_clip=0.0)
    for _ in range(2 * EVERY):
        nlp.update(examples_of(nlp), sgd=optimizer)
    shim = shim_of(nlp)
    adamw = shim.steps.adamw_for(optimizer)
    before = {name: mean.clone() for name, mean in adamw.means.items()}
    assert {name for name, mean in before.items() if mean.any()} == {name for name in before if name.startswith(TOP)}
    assert any(name.startswith(BOTTOM) for name in before)
    gradients: list[Tensor] = []
    shim.steps.before_step = lambda parameters: gradients.extend(p.grad.clone() for p in parameters)
    nlp.update(examples_of(nlp), sgd=optimizer)
    assert shim.steps.adamw_for(optimizer) is adamw
    names = [name for group in adamw.groups for name in group.names]
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(adamw.means[name], 0.9 * before[name] + 0.1 * gradient, rtol=1e-5, atol=1e-7)


def test_late_layers_learn_at_their_own_share_of_the_rate(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=EVERY), adamw_v1(1e-3, L2=0.0, grad_clip=0.0, layer_decay=0.5)
    for _ in range(3 * EVERY):
        nlp.update(examples_of(nlp), sgd=optimizer)
    before = weights(nlp)
    nlp.update(examples_of(nlp), sgd=optimizer)
    distances = {name: float((after - before[name]).abs().mean()) for name, after in weights(nlp).items()}
    # An embedding's first step is rate * 0.1 g / sqrt(0.001 g^2), rate 0.5 ** 3 of the head's.
    assert distances["embeddings.norm.bias"] == pytest.approx(0.125 * 1e-3 * 10**0.5, rel=0.05)
    rates = {name: group.rate for group in shim_of(nlp).steps.adamw_for(optimizer).groups for name in group.names}
    assert {name.split(".norm")[0]: rate for name, rate in rates.items() if "norm" in name} == {
        "body.blocks.1": 0.5,
        "body.blocks.0": 0.25,
        "embeddings": 0.125,
    }


def test_a_saved_pipeline_counts_from_the_start_and_a_copy_goes_on(
    make_nlp: MakeNlp, examples_of: ExamplesOf, tmp_path
) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=EVERY), adamw_v1(1e-3)
    for _ in range(EVERY):
        nlp.update(examples_of(nlp), sgd=optimizer)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert moved_parts(loaded, examples_of(loaded), adamw_v1(1e-3)) == set()
    copied = shim_of_transformer(nlp.get_pipe("transformer").model.copy())
    assert {name for name, p in copied.module.named_parameters() if p.requires_grad} == {
        name for name, _ in copied.module.named_parameters() if name.startswith(TOP)
    }
    for _ in range(EVERY):
        copied.after_step()
    assert all(p.requires_grad for p in copied.module.body.blocks.parameters())


def test_the_heads_learn_while_the_encoder_is_frozen(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    nlp, optimizer = make_nlp(gradual_unfreeze_steps=1000), adamw_v1(1e-2)
    before = weights(nlp)
    losses = [nlp.update(examples_of(nlp), sgd=optimizer)["tagger"] for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(after, before[name]) for name, after in weights(nlp).items())


def test_fewer_than_no_steps_are_refused(make_nlp: MakeNlp) -> None:
    with pytest.raises(ValueError, match="gradual_unfreeze_steps must be at least 0, but got -5"):
        make_nlp(gradual_unfreeze_steps=-5)
