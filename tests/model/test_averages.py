import pytest
import torch
from torch import nn

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.optim.averages import replaced_weights, update_averages
from spacy_electra.model.shim import TorchShim

KEY = (1, "weight")


def run(module, inputs):
    return module(inputs)


@pytest.fixture
def shim() -> TorchShim:
    torch.manual_seed(0)
    return TorchShim(nn.Linear(2, 1), forward=run, precision="fp32")


def learn(shim, optimizer, steps):
    for _ in range(steps):
        output, backprop = shim.begin_update(torch.ones(1, 2))
        backprop([output.sum()])
        shim.finish_update(optimizer)


def test_an_average_by_hand():
    averages = {}
    for step, value in enumerate([4.0, 15.0], 1):
        update_averages(averages, {KEY: torch.tensor([value])}, steps=step)
    # the first is 4; the second keeps (1 + 2) / (10 + 2) of it
    assert averages[KEY].tolist() == [0.25 * 4.0 + 0.75 * 15.0]


def test_an_average_is_no_view_of_the_weights():
    averages, weight = {}, torch.tensor([1.0])
    update_averages(averages, {KEY: weight}, steps=1)
    weight += 1
    assert averages[KEY].tolist() == [1.0]


def fail_with_zeros(module):
    with replaced_weights(module, {"weight": torch.zeros(1, 2)}):
        raise KeyError(module.weight.any().item())


def test_weights_are_replaced_and_come_back_even_after_an_error():
    module = nn.Linear(2, 1)
    own = module.weight.detach().clone()
    with pytest.raises(KeyError, match="False"):
        fail_with_zeros(module)
    assert torch.equal(module.weight, own)


def test_an_optimizer_with_averages_has_those_of_the_module(shim):
    optimizer = adamw_v1(0.1, L2=0.0, use_averages=True)
    seen = []
    for _ in range(3):
        learn(shim, optimizer, 1)
        seen.append(shim.module.weight.detach().clone())
    mean = seen[0]
    for step, weight in enumerate(seen[1:], 2):
        mean = mean.lerp(weight, 1 - (1 + step) / (10 + step))
    torch.testing.assert_close(torch.as_tensor(optimizer.averages[shim.id, "weight"]), mean)


def test_an_optimizer_without_averages_gets_none(shim):
    optimizer = adamw_v1(0.1)
    learn(shim, optimizer, 2)
    assert optimizer.averages is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions_and_bytes_are_those_of_the_averages_while_they_are_used(precision):
    shim = TorchShim(nn.Linear(2, 1), forward=run, precision=precision)
    optimizer = adamw_v1(0.5, L2=0.0, use_averages=True)
    learn(shim, optimizer, 3)
    x = torch.ones(1, 2, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
    last, saved_last = shim.predict(x).item(), shim.to_bytes()
    weight, bias = (torch.as_tensor(optimizer.averages[shim.id, name]) for name in ("weight", "bias"))
    with shim.use_params(optimizer.averages):
        assert shim.predict(x).item() == pytest.approx((weight.sum() + bias).item(), rel=1e-2)
        assert shim.to_bytes() != saved_last
    assert shim.predict(x).item() == last
    assert shim.to_bytes() == saved_last


def test_an_interruption_while_averages_are_used_leaves_the_own_weights():
    shim = TorchShim(nn.Linear(2, 1), forward=run, precision="bf16")
    optimizer = adamw_v1(0.5, L2=0.0, use_averages=True)
    learn(shim, optimizer, 3)
    x = torch.ones(1, 2, dtype=torch.bfloat16)
    last = shim.predict(x).item()
    with pytest.raises(KeyboardInterrupt), shim.use_params(optimizer.averages):  # noqa: PT012
        assert shim.predict(x).item() != last
        raise KeyboardInterrupt
    assert shim.predict(x).item() == last


def test_weights_of_other_layers_change_nothing(shim):
    before = shim.to_bytes()
    with shim.use_params({(shim.id + 1, "weight"): torch.zeros(1, 2).numpy()}):
        assert shim.to_bytes() == before
