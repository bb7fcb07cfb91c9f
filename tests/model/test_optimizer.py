"""AdamW against the update written out, tensor by tensor; groups, clip, state, and the thinc optimizer around it."""

import copy
import math

import numpy as np
import pytest
import torch
from thinc.api import SGD, Adam, Config, Optimizer, RAdam, registry
from torch import Tensor, nn

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.data.rng import row_keys
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.optim.adamw import AdamW, Hyperparameters, adamw_v1, clip_gradients
from spacy_electra.model.optim.parameter_groups import parameter_groups

SHAPE = EncoderShape(layers=2, width=8, feed_forward=16, heads=2, embedding=4, vocab=20, positions=12)
SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
PLAIN = Hyperparameters(
    learn_rate=0.02,
    beta1=0.9,
    beta2=0.99,
    eps=1e-6,
    L2=0.3,
    grad_clip=0.0,
    bias_correction=False,
    layer_decay=None,
)


def with_values(**changes: object) -> Hyperparameters:
    return Hyperparameters(**{**vars(PLAIN), **changes})


def small_electra(seed: int = 0) -> Electra:
    model = Electra(generator=SHAPE, discriminator=SHAPE)
    initialize(model, kind="paper", seed=seed)
    return model


def gradients(model: nn.Module, step: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(step)
    return {name: torch.randn(p.shape, generator=random).to(p) for name, p in model.named_parameters()}


def take_steps(model: nn.Module, adamw: AdamW, settings: list[Hyperparameters], first: int = 0) -> None:
    for number, now in enumerate(settings, start=first):
        for name, gradient in gradients(model, number).items():
            model.get_parameter(name).grad = gradient
        adamw.step(now)


def written_out(model: nn.Module, settings: list[Hyperparameters], rates: dict[str, float]) -> dict[str, Tensor]:
    """google-research/electra, model/optimization.py, `AdamWeightDecayOptimizer`, one tensor after the other."""
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    m = {name: torch.zeros_like(p) for name, p in params.items()}
    v = {name: torch.zeros_like(p) for name, p in params.items()}
    for step, now in enumerate(settings):
        for name, grad in gradients(model, step).items():
            m[name] = now.beta1 * m[name] + (1 - now.beta1) * grad
            v[name] = now.beta2 * v[name] + (1 - now.beta2) * grad * grad
            next_m, next_v = m[name], v[name]
            if now.bias_correction:
                next_m = next_m / (1 - now.beta1 ** (step + 1))
                next_v = next_v / (1 - now.beta2 ** (step + 1))
            update = next_m / (next_v.sqrt() + now.eps)
            if "norm" not in name and not name.endswith("bias"):
                update = update + now.L2 * params[name]
            params[name] = params[name] - now.learn_rate * rates[name] * update
    return params


@pytest.mark.parametrize("layer_decay", [None, 0.8], ids=["one rate", "layer-wise"])
@pytest.mark.parametrize("bias_correction", [False, True], ids=["paper", "corrected"])
def test_adamw_equals_the_update_written_out(bias_correction: bool, layer_decay: float | None):
    model = small_electra().double()
    settings = [with_values(learn_rate=0.02 / (i + 1), bias_correction=bias_correction) for i in range(5)]
    groups = parameter_groups(model, layer_decay=layer_decay)
    expected = written_out(model, settings, {name: group.rate for group in groups for name in group.names})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    take_steps(model, AdamW(groups), settings)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name])
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_corrected_adamw_equals_torchs():
    ours, theirs = small_electra(), small_electra()
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.02, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.0)
    adamw = AdamW(parameter_groups(ours))
    for step in range(4):
        take_steps(ours, adamw, [with_values(L2=0.0, bias_correction=True)], first=step)
        for name, gradient in gradients(theirs, step).items():
            theirs.get_parameter(name).grad = gradient
        reference.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)


def test_parameters_added_later_are_corrected_for_their_own_age_as_torchs_are():
    ours, theirs = small_electra(), small_electra()
    for model in (ours, theirs):
        model.embeddings.requires_grad_(False)
    reference = torch.optim.AdamW(
        [p for p in theirs.parameters() if p.requires_grad], lr=0.02, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.0
    )
    adamw = AdamW(parameter_groups(ours))
    for step in range(5):
        if step == 3:
            for model in (ours, theirs):
                model.embeddings.requires_grad_(True)
            adamw.add(parameter_groups(ours, known=adamw.means.keys()))
            reference.add_param_group({"params": list(theirs.embeddings.parameters())})
        for model in (ours, theirs):
            for name, gradient in gradients(model, step).items():
                p = model.get_parameter(name)
                p.grad = gradient if p.requires_grad else None
        adamw.step(with_values(L2=0.0, bias_correction=True))
        reference.step()
    assert not torch.equal(ours.embeddings.word.weight, small_electra().embeddings.word.weight)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)


def test_one_step_of_one_weight_by_hand():
    # Gradient 0.5: mean 0.05, square 0.00025, update 0.05 / (0.0158114 + 0.000001) = 3.16208; corrected 0.5 / 0.500001.
    for bias_correction, update in ((False, 3.16208), (True, 1.0)):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        layer.weight.grad = torch.tensor([[0.5]])
        AdamW(parameter_groups(layer)).step(with_values(beta2=0.999, L2=0.1, bias_correction=bias_correction))
        assert layer.weight.item() == pytest.approx(1 - 0.02 * (update + 0.1), abs=2e-7)


def test_a_rate_in_a_tensor_steps_like_a_number():
    one, two = small_electra(), small_electra()
    take_steps(one, AdamW(parameter_groups(one, layer_decay=0.5)), [PLAIN] * 2)
    take_steps(two, AdamW(parameter_groups(two, layer_decay=0.5)), [with_values(learn_rate=torch.tensor(0.02))] * 2)
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=name)


def test_parameters_without_gradient_stay_as_they_are():
    model = small_electra()
    adamw = AdamW(parameter_groups(model))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.replaced_head.score.weight.grad = torch.ones_like(model.replaced_head.score.weight)
    adamw.step(PLAIN)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"replaced_head.score.weight"}


def test_norms_and_biases_do_not_decay_and_all_else_does():
    model = small_electra()
    decays = {name: group.decays for group in parameter_groups(model) for name in group.names}
    assert decays.keys() == dict(model.named_parameters()).keys()
    kept = {name for name, does in decays.items() if not does}
    assert kept == {name for name, p in model.named_parameters() if p.ndim == 1}
    assert "masked_head.bias" in kept
    assert "embeddings.norm.weight" in kept
    assert "discriminator.blocks.0.norm1.bias" in kept


@pytest.mark.parametrize(
    ("name", "height"),
    [
        ("replaced_head.score.weight", 0),
        ("masked_head.bias", 0),
        ("discriminator.blocks.2.norm2.weight", 1),
        ("discriminator.blocks.0.attention.qkv.weight", 3),
        ("discriminator.project.weight", 4),
        ("generator.blocks.0.feed_forward.up.bias", 1),
        ("generator.project.bias", 2),
        ("embeddings.position.weight", 4),
    ],
)
def test_a_layer_learns_at_the_decay_to_the_power_of_its_distance_from_the_head(name: str, height: int):
    model = Electra(generator=EncoderShape(1, 8, 16, 2, 4, 20, 12), discriminator=EncoderShape(3, 8, 16, 2, 4, 20, 12))
    rates = {n: group.rate for group in parameter_groups(model, layer_decay=0.5) for n in group.names}
    assert rates[name] == 0.5**height


def test_frozen_parameters_are_in_no_group():
    model = small_electra()
    model.embeddings.requires_grad_(False)
    names = {name for group in parameter_groups(model) for name in group.names}
    assert names
    assert not any(name.startswith("embeddings.") for name in names)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad"):
        AdamW(parameter_groups(model))


def test_the_clip_scales_all_gradients_by_their_joint_norm():
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert clip_gradients(model.parameters(), 1.0).item() == pytest.approx(5.0)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.6, 0.0]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(model.bias.grad, torch.tensor([0.8]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("limit", [0.0, 6.0], ids=["no limit", "below the limit"])
def test_the_clip_leaves_gradients_that_are_short_enough(limit: float):
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert clip_gradients(model.parameters(), limit).item() == pytest.approx(5.0)
    assert model.bias.grad.item() == 4.0
    assert model.weight.grad.tolist() == [[3.0, 0.0]]


@pytest.mark.parametrize("bias_correction", [False, True])
def test_steps_after_loading_the_named_state_equal_uninterrupted_ones(bias_correction: bool):
    now = with_values(bias_correction=bias_correction)
    whole = small_electra()
    adamw = AdamW(parameter_groups(whole, layer_decay=0.9))
    take_steps(whole, adamw, [now] * 3)
    halted = copy.deepcopy(whole)
    state = {name: tensor.clone() for name, tensor in adamw.named_state().items()}
    resumed = AdamW(parameter_groups(halted, layer_decay=0.9))
    assert not torch.equal(resumed.named_state()["mean.masked_head.bias"], state["mean.masked_head.bias"])
    resumed.load_named_state(state)
    assert state["steps"] == 3
    take_steps(whole, adamw, [now] * 2, first=3)
    take_steps(halted, resumed, [now] * 2, first=3)
    for (name, a), b in zip(whole.named_parameters(), halted.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert resumed.named_state().keys() == state.keys()
    assert all(torch.equal(resumed.named_state()[name], tensor) for name, tensor in adamw.named_state().items())


def test_a_state_of_other_parameters_is_refused_and_changes_nothing():
    model = small_electra()
    adamw = AdamW(parameter_groups(model))
    state = {name: tensor + 1 for name, tensor in adamw.named_state().items()}
    lacking = {name: tensor for name, tensor in state.items() if name != "square.masked_head.bias"}
    with pytest.raises(ValueError, match=r"'square.masked_head.bias' is missing"):
        adamw.load_named_state(lacking)
    with pytest.raises(ValueError, match=r"'mean.other' is not known"):
        adamw.load_named_state({**state, "mean.other": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'square.masked_head.bias' has shape \(3,\)"):
        adamw.load_named_state({**state, "square.masked_head.bias": torch.zeros(3)})
    assert adamw.steps == 0
    assert adamw.means["masked_head.bias"].abs().sum() == 0


# ---- the thinc optimizer


CONFIG = """
[optimizer]
@optimizers = "spacy-electra.AdamW.v1"
beta1 = 0.8
L2 = 0.05
bias_correction = true
layer_decay = 0.9

[optimizer.learn_rate]
@schedules = "warmup_linear.v1"
warmup_steps = 2
total_steps = 4
initial_rate = 0.5
"""


def test_a_config_makes_it_and_thinc_steps_its_schedule():
    registry.optimizers("spacy-electra.AdamW.v1", func=adamw_v1)
    optimizer = registry.resolve(Config().from_str(CONFIG))["optimizer"]
    assert isinstance(optimizer, Optimizer)
    rates = []
    for _ in range(4):
        rates.append(Hyperparameters.of(optimizer).learn_rate)
        optimizer.step_schedules()
    assert rates == [0.0, 0.25, 0.5, 0.25]
    expected = with_values(
        learn_rate=0.0, beta1=0.8, beta2=0.999, L2=0.05, grad_clip=1.0, bias_correction=True, layer_decay=0.9
    )
    assert Hyperparameters.of(optimizer) == expected


def test_its_defaults_are_the_papers():
    assert Hyperparameters.of(adamw_v1()) == Hyperparameters(
        learn_rate=5e-4,
        beta1=0.9,
        beta2=0.999,
        eps=1e-6,
        L2=0.01,
        grad_clip=1.0,
        bias_correction=False,
        layer_decay=None,
    )


def test_thincs_own_adam_is_read_as_corrected_with_one_rate():
    read = Hyperparameters.of(Adam(0.125, beta1=0.5, beta2=0.75, eps=0.5, L2=0.25, grad_clip=2.0))
    assert read == Hyperparameters(0.125, 0.5, 0.75, 0.5, 0.25, 2.0, bias_correction=True, layer_decay=None)


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (SGD(0.1), "SGD"),
        (RAdam(0.1), "RAdam"),
        (Adam(0.1, L2=0.1, L2_is_weight_decay=False), "L2_is_weight_decay"),
    ],
)
def test_optimizers_that_adamw_cannot_follow_are_refused(optimizer: Optimizer, told: str):
    with pytest.raises(ValueError, match=told):
        Hyperparameters.of(optimizer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learn_rate", -1.0),
        ("beta1", 0.0),
        ("beta2", 1.0),
        ("eps", 0.0),
        ("L2", -0.1),
        ("grad_clip", math.nan),
        ("layer_decay", 1.5),
    ],
)
def test_numbers_that_cannot_train_are_refused_by_name(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        adamw_v1(**{name: value})


def test_other_components_are_stepped_by_it_as_by_thincs_adam():
    ours, theirs = adamw_v1(0.1, L2=0.1), Adam(0.1, L2=0.1, eps=1e-6, use_averages=False)
    results = []
    for optimizer in (ours, theirs):
        weights = np.full((3, 2), 0.5, dtype="f")
        for gradient in (0.25, -1.0, 0.5):
            weights, _ = optimizer((1, "W"), weights, np.full((3, 2), gradient, dtype="f"))
        results.append(weights)
    assert np.array_equal(*results)
    assert not np.allclose(results[0], 0.5)


def test_the_same_seed_gives_the_same_losses_to_the_last_bit():
    def losses() -> list[float]:
        model = small_electra(seed=3)
        adamw = AdamW(parameter_groups(model))
        seen = []
        for step in range(4):
            number = torch.arange(2)
            keys = row_keys(7, epoch=torch.zeros_like(number), row=number + 2 * step)
            ids = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 3], [2, 11, 12, 13, 14, 3, 0, 0]])
            positions = torch.arange(8).expand_as(ids)
            rows = Rows(ids, torch.zeros_like(ids), (ids > 0).long(), positions, keys)
            output = model(rows, mask_rows(rows, SPECIAL, rate=0.3, unmasked_fraction=0.15), vocab_size=20)
            loss = (
                output.generator.loss / output.generator.count
                + 50 * output.discriminator.loss / output.discriminator.count
            )
            loss.backward()
            clip_gradients(adamw.parameters, 1.0)
            adamw.step(PLAIN)
            model.zero_grad(set_to_none=True)
            seen.append(loss.item())
        return seen

    first = losses()
    assert first == losses()
    assert len(set(first)) == 4


def test_the_transformer_gets_its_share_of_the_rate():
    optimizer = adamw_v1(0.01, transformer_rate=0.1)
    assert optimizer.learn_rate == 0.01  # of the heads, by thinc
    assert Hyperparameters.of(optimizer).learn_rate == pytest.approx(0.001)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_gradients_that_are_not_finite_change_nothing_but_the_counts(bias_correction: bool):
    now = with_values(bias_correction=bias_correction)
    model = small_electra()
    adamw = AdamW(parameter_groups(model))
    take_steps(model, adamw, [now])
    before = {name: tensor.clone() for name, tensor in [*model.named_parameters(), *adamw.named_state().items()]}
    for value in (math.nan, math.inf):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        adamw.step(now, norm=torch.tensor(value))
    assert adamw.skipped.tolist() == [2, 2]
    after = dict([*model.named_parameters(), *adamw.named_state().items()])
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name != "skipped")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    adamw.step(now, norm=torch.tensor(1.0))
    assert (adamw.steps, adamw.skipped.tolist()) == (2, [0, 2])
    assert not any(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
