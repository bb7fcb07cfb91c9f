"""Adapters learn, the weights under them stay, and what is saved or predicts has them merged."""

import pickle
import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
import spacy
import torch
from confection import ConfigValidationError
from spacy.language import Language
from spacy.training import Example
from thinc.types import Floats2d
from torch import Tensor

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.optim.parameter_groups import parameter_groups
from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.lora import LINEAR, has_adapters
from spacy_electra.pipeline.transformer import shim_of_transformer

MakeNlp = Callable[..., Language]
ExamplesOf = Callable[[Language], list[Example]]
TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!"]


def shim_of(nlp: Language) -> EncoderShim:
    return shim_of_transformer(nlp.get_pipe("transformer").model)


def weights(nlp: Language) -> dict[str, Tensor]:
    """What the live encoder holds, without what adapters put into its names."""
    named = shim_of(nlp).module.named_parameters()
    return {name.replace(".base_layer.", "."): p.detach().clone() for name, p in named}


def vectors(nlp: Language) -> Floats2d:
    return nlp.get_pipe("transformer").model.predict([nlp.make_doc(text) for text in TEXTS]).vectors.numpy()


def train(nlp: Language, examples_of: ExamplesOf, *, steps: int = 6, learn_rate: float = 1e-2) -> Language:
    optimizer = adamw_v1(learn_rate)
    for _ in range(steps):
        nlp.update(examples_of(nlp), sgd=optimizer)
    return nlp


@pytest.fixture
def trained(make_nlp: MakeNlp, examples_of: ExamplesOf) -> Language:
    """A pipeline whose adapters have left their start."""
    nlp = train(make_nlp(lora_rank=4), examples_of)
    assert np.abs(vectors(nlp) - vectors(make_nlp())).max() > 0.05
    return nlp


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # the import system's own sign for what cannot be imported


def test_adapters_move_and_the_weights_under_them_do_not(make_nlp: MakeNlp, trained: Language) -> None:
    start, now = weights(make_nlp()), weights(trained)
    for name, weight in start.items():
        torch.testing.assert_close(now.pop(name), weight, rtol=0, atol=0)
    assert now.keys() == {
        f"body.blocks.{n}.{part}.lora_{factor}.default.weight"
        for n in (0, 1)
        for part in ("attention.qkv", "attention.output", "feed_forward.up", "feed_forward.down")
        for factor in "AB"
    }
    for name, adapter in now.items():
        assert min(adapter.shape) == 4, name
        if "lora_B" in name:  # begins with zeros
            assert adapter.abs().max() > 0.01, name


def test_both_factors_of_an_adapter_learn(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    nlp, optimizer = make_nlp(lora_rank=4), adamw_v1(1e-2, L2=0.0)
    for _ in range(2):  # spaCy's head begins with zeros, then the second factor does
        nlp.update(examples_of(nlp), sgd=optimizer)
    before = weights(nlp)
    for _ in range(2):
        nlp.update(examples_of(nlp), sgd=optimizer)
    after = weights(nlp)
    assert [name for name in after if "lora_" in name and torch.equal(after[name], before[name])] == []


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_blocks_get_no_adapters(make_nlp: MakeNlp, examples_of: ExamplesOf, frozen: int) -> None:
    nlp = train(make_nlp(lora_rank=2, freeze_layers=frozen), examples_of, steps=1)
    adapted = {name.split(".")[2] for name, p in shim_of(nlp).module.named_parameters() if p.requires_grad}
    assert adapted == {str(number) for number in range(frozen, 2)}


def test_what_an_adapter_adds_is_alpha_over_rank_times_its_product(trained: Language) -> None:
    module = shim_of(trained).module
    plain = shim_of(trained).plain_module()
    under = module.get_submodule("body.blocks.1.feed_forward.up")
    product = under.lora_B["default"].weight @ under.lora_A["default"].weight
    added = plain.get_parameter("body.blocks.1.feed_forward.up.weight") - under.base_layer.weight
    torch.testing.assert_close(added, 16.0 / 4 * product, rtol=0, atol=1e-6)


def test_predictions_with_merged_weights_are_those_of_the_adapters(trained: Language) -> None:
    docs = [trained.make_doc(text) for text in TEXTS]
    learning, _ = trained.get_pipe("transformer").model.begin_update(docs)
    np.testing.assert_allclose(vectors(trained), learning.vectors.numpy(), rtol=0, atol=1e-5)


def test_predictions_run_without_adapters_and_merge_once_a_step(trained: Language, examples_of: ExamplesOf) -> None:
    shim = shim_of(trained)
    first = shim.predictor()
    assert not has_adapters(first.encoder)
    assert has_adapters(shim.module)
    assert shim.predictor() is first
    before = vectors(trained)
    train(trained, examples_of, steps=1)
    assert np.abs(vectors(trained) - before).max() > 1e-3


def test_a_saved_pipeline_has_plain_weights_and_agrees(
    make_nlp: MakeNlp, trained: Language, tmp_path, without_peft: None
) -> None:
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    assert nlp.config["components"]["transformer"]["model"]["lora_rank"] == 4
    assert weights(nlp).keys() == weights(make_nlp()).keys()
    np.testing.assert_allclose(vectors(nlp), vectors(trained), rtol=0, atol=1e-5)
    assert [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)] == [[t.tag_ for t in doc] for doc in trained.pipe(TEXTS)]


NO_PEFT = r"lora_rank=4 needs the peft library.*pip install \"peft<0.22\""


def test_initializing_without_peft_says_what_to_install(make_nlp: MakeNlp, without_peft: None) -> None:
    with pytest.raises(ConfigValidationError) as caught:
        make_nlp(lora_rank=4)
    assert re.search(NO_PEFT, caught.value.desc or "")


def test_training_a_saved_pipeline_without_peft_says_what_to_install(
    trained: Language, examples_of: ExamplesOf, tmp_path, without_peft: None
) -> None:
    trained.to_disk(tmp_path)
    with pytest.raises(ValueError, match=NO_PEFT):
        train(spacy.load(tmp_path), examples_of, steps=1)


def test_saving_changes_no_step(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    ends = []
    for is_saved in (False, True):
        nlp, optimizer = make_nlp(lora_rank=4), adamw_v1(1e-2)
        for _ in range(4):
            nlp.update(examples_of(nlp), sgd=optimizer)
            if is_saved:
                nlp.to_bytes()
                vectors(nlp)
        ends.append(weights(nlp))
    assert ends[0].keys() == ends[1].keys()
    for name, end in ends[0].items():
        torch.testing.assert_close(ends[1][name], end, rtol=0, atol=0)


def test_a_loaded_pipeline_begins_fresh_adapters_on_merged_weights(
    trained: Language, tmp_path, examples_of: ExamplesOf
) -> None:
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    saved, before = weights(nlp), vectors(nlp)
    nlp.get_pipe("transformer").model.begin_update([nlp.make_doc(TEXTS[0])])  # makes the adapters
    assert has_adapters(shim_of(nlp).module)
    np.testing.assert_array_equal(vectors(nlp), before)
    train(nlp, examples_of, steps=3)
    assert np.abs(vectors(nlp) - before).max() > 0.01
    for name, weight in saved.items():
        torch.testing.assert_close(weights(nlp)[name], weight, rtol=0, atol=0)


def test_adapters_can_be_left_off_at_load(trained: Language, tmp_path, examples_of: ExamplesOf) -> None:
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path, config={"components.transformer.model.lora_rank": 0})
    before = weights(nlp)
    train(nlp, examples_of, steps=2)
    assert not torch.equal(
        weights(nlp)["body.blocks.0.feed_forward.up.weight"], before["body.blocks.0.feed_forward.up.weight"]
    )
    assert weights(nlp).keys() == before.keys()


@pytest.mark.parametrize("copy", ["copy", "pickle"])
def test_a_copy_is_plain_agrees_and_learns_alone(trained: Language, examples_of: ExamplesOf, copy: str) -> None:
    before = vectors(trained)
    if copy == "copy":
        model = trained.get_pipe("transformer").model.copy()
    else:
        model = pickle.loads(pickle.dumps(trained)).get_pipe("transformer").model
    docs = [trained.make_doc(text) for text in TEXTS]
    assert not has_adapters(shim_of_transformer(model).module)
    np.testing.assert_array_equal(model.predict(docs).vectors, before)
    _, backprop = model.begin_update(docs)
    backprop(model.predict(docs))
    model.finish_update(adamw_v1(1e-2))
    assert np.abs(model.predict(docs).vectors.numpy() - before).max() > 1e-3
    np.testing.assert_array_equal(vectors(trained), before)
    train(trained, examples_of, steps=1)
    assert np.abs(vectors(trained) - before).max() > 1e-3


def test_replaced_listeners_learn_by_adapters_and_agree_after_save_and_load(
    trained: Language, tmp_path, examples_of: ExamplesOf
) -> None:
    def scores(nlp: Language) -> Floats2d:
        return np.concatenate(nlp.get_pipe("tagger").model.predict([nlp.make_doc(text) for text in TEXTS]))

    trained.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    trained.remove_pipe("transformer")
    before = scores(trained)
    train(trained, examples_of, steps=2)
    (private,) = [node for node in trained.get_pipe("tagger").model.walk() if node.name == "electra_transformer"]
    assert has_adapters(shim_of_transformer(private).module)
    assert np.abs(scores(trained) - before).max() > 1e-3
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    assert nlp.config["components"]["tagger"]["model"]["tok2vec"]["lora_rank"] == 4
    np.testing.assert_allclose(scores(nlp), scores(trained), rtol=0, atol=1e-5)


def test_adapters_learn_at_the_rate_of_their_block(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    moves = []
    for layer_decay in (None, 0.5):
        nlp, optimizer = make_nlp(lora_rank=4), adamw_v1(1e-6, L2=0.0, grad_clip=0.0, layer_decay=layer_decay)
        for _ in range(4):
            nlp.update(examples_of(nlp), sgd=optimizer)
        moves.append({n: float(p.abs().mean()) for n, p in weights(nlp).items() if "lora_B" in n})  # began with zeros
    for name, full in moves[0].items():
        share = 0.5 if "blocks.1." in name else 0.25
        assert moves[1][name] / full == pytest.approx(share, rel=0.1), name


def test_all_adapters_decay(trained: Language) -> None:
    decays = {name: group.decays for group in parameter_groups(shim_of(trained).module) for name in group.names}
    assert len(decays) == 2 * len(LINEAR) * 2
    assert set(decays.values()) == {True}


def test_activation_checkpointing_changes_no_step(make_nlp: MakeNlp, examples_of: ExamplesOf) -> None:
    ends = [weights(train(make_nlp(lora_rank=4, activation_checkpointing=on), examples_of)) for on in (False, True)]
    for name, end in ends[0].items():
        torch.testing.assert_close(ends[1][name], end, rtol=0, atol=1e-6)


def test_bf16_predicts_as_the_saved_pipeline_does(make_nlp: MakeNlp, examples_of: ExamplesOf, tmp_path) -> None:
    nlp = train(make_nlp(lora_rank=4, precision="bf16"), examples_of)
    assert np.abs(vectors(nlp) - vectors(make_nlp(precision="bf16"))).max() > 0.05
    nlp.to_disk(tmp_path)
    np.testing.assert_array_equal(vectors(spacy.load(tmp_path)), vectors(nlp))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": -1}, "lora_rank must be at least 0, but got -1"),
        ({"lora_rank": 4, "lora_alpha": 0.0}, "lora_alpha must be a finite number above 0, but got 0.0"),
        ({"lora_alpha": -1.0}, "lora_alpha must be a finite number above 0, but got -1.0"),
        ({"lora_rank": 4, "freeze_layers": 2}, "leaves no block that could learn"),
        ({"lora_rank": 4, "gradual_unfreeze_steps": 10}, "exclude each other"),
    ],
)
def test_settings_that_cannot_train_are_refused(make_nlp: MakeNlp, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match="lora_") as raised:
        make_nlp(**settings)
    assert message in str(raised.value)
