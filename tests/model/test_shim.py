import gc
from pathlib import Path

import pytest
import torch
from thinc.api import Adam, Model
from torch import nn

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.shim import TorchShim

LEARN_RATE = 0.1


def run(module, inputs):
    return module(inputs)


def linear(weight=(1.0, 2.0), bias=0.5):
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([weight]))
        module.bias.fill_(bias)
    return module


@pytest.fixture
def shim() -> TorchShim:
    return TorchShim(linear(), forward=run, precision="fp32")


@pytest.fixture
def optimizer():
    return adamw_v1(LEARN_RATE, L2=0.0, grad_clip=0.0)


def weights(shim: TorchShim) -> list[float]:
    return torch.cat([p.detach().flatten() for p in shim.module.parameters()]).tolist()


def update(shim, x):
    """Forward and backward with the gradient 1; the caller asks for the step."""
    output, backprop = shim.begin_update(torch.tensor([x]))
    backprop([output], [torch.ones_like(output)])


# The first step of the paper's AdamW from moments 0 is rate * 0.1 g / (sqrt(0.001 g^2) + 1e-6), about 3.162 * rate.
FIRST_STEP = LEARN_RATE * 0.1 / 0.001**0.5


def test_a_step_is_the_papers(shim, optimizer):
    update(shim, [3.0, -4.0])
    shim.finish_update(optimizer)
    assert weights(shim) == pytest.approx([1 - FIRST_STEP, 2 + FIRST_STEP, 0.5 - FIRST_STEP], rel=1e-4)


def test_a_loss_needs_no_gradient(shim, optimizer):
    output, backprop = shim.begin_update(torch.tensor([[3.0, -4.0]]))
    backprop([output.sum()])
    shim.finish_update(optimizer)
    assert weights(shim) == pytest.approx([1 - FIRST_STEP, 2 + FIRST_STEP, 0.5 - FIRST_STEP], rel=1e-4)


def test_the_clip_is_global(shim):
    update(shim, [2.0, 2.0])  # gradients 2, 2 and 1: norm 3
    shim.finish_update(adamw_v1(LEARN_RATE, grad_clip=0.3))
    assert shim.steps.gradient_norm is not None
    assert shim.steps.gradient_norm.item() == pytest.approx(3.0)
    assert [mean.tolist() for mean in shim.steps._adamw[1].means.values()] == [
        [[pytest.approx(0.02)] * 2],
        [pytest.approx(0.01)],
    ]


def test_gradients_add_up_until_a_step(shim, optimizer):
    other = shim.copy()
    update(shim, [1.0, 0.0])
    update(shim, [2.0, -1.0])
    shim.finish_update(optimizer)
    update(other, [3.0, -1.0])
    other.module.bias.grad *= 2  # the bias sees one gradient a pass
    other.finish_update(adamw_v1(LEARN_RATE, L2=0.0, grad_clip=0.0))
    assert weights(shim) == pytest.approx(weights(other))
    assert all(p.grad is None for p in shim.module.parameters())


def test_a_step_asked_for_early_is_taken_after_the_backward_pass(shim, optimizer):
    before = weights(shim)
    output, backprop = shim.begin_update(torch.tensor([[3.0, -4.0]]))
    shim.finish_update(optimizer)
    assert weights(shim) == before
    backprop([output], [torch.ones_like(output)])
    assert weights(shim) == pytest.approx([1 - FIRST_STEP, 2 + FIRST_STEP, 0.5 - FIRST_STEP], rel=1e-4)


def test_a_step_waits_for_all_backward_passes(shim, optimizer):
    before = weights(shim)
    first, backprop_first = shim.begin_update(torch.tensor([[1.0, 0.0]]))
    second, backprop_second = shim.begin_update(torch.tensor([[0.0, 1.0]]))
    shim.finish_update(optimizer)
    backprop_second([second], [torch.ones_like(second)])
    assert weights(shim) == before
    backprop_first([first], [torch.ones_like(first)])
    assert weights(shim) != before


def test_a_dropped_forward_pass_holds_nothing_up(shim, optimizer):
    before = weights(shim)
    shim.begin_update(torch.tensor([[1.0, 1.0]]))
    gc.collect()
    update(shim, [3.0, -4.0])
    shim.finish_update(optimizer)
    assert weights(shim) != before


@pytest.mark.parametrize("failing", ["forward", "backward"])
def test_a_failed_pass_holds_nothing_up_while_its_exception_is_kept(shim, optimizer, failing):
    before = weights(shim)

    def fail(*_):
        raise KeyboardInterrupt

    register = shim.module.register_forward_hook
    handle = (register if failing == "forward" else shim.module.weight.register_hook)(fail)
    with pytest.raises(KeyboardInterrupt) as kept:
        update(shim, [1.0, 1.0])
    handle.remove()
    update(shim, [3.0, -4.0])
    shim.finish_update(optimizer)
    assert kept.value.__traceback__ is not None
    assert weights(shim) != before


def test_a_pass_that_a_step_waited_for_in_vain_holds_up_no_further_one(shim, optimizer):
    before = weights(shim)
    output, backprop = shim.begin_update(torch.tensor([[1.0, 1.0]]))
    shim.finish_update(optimizer)
    assert weights(shim) == before
    update(shim, [3.0, -4.0])
    after = weights(shim)
    assert after == pytest.approx([1 - FIRST_STEP, 2 + FIRST_STEP, 0.5 - FIRST_STEP], rel=1e-4)
    backprop([output], [torch.ones_like(output)])  # too late for that step, it counts in the next
    assert weights(shim) == after
    assert shim.module.weight.grad.tolist() == [[1.0, 1.0]]


def test_a_function_gets_weights_that_it_may_change_and_their_gradients(shim):
    update(shim, [3.0, -4.0])
    got = {}

    def take(key, weights, gradient):
        got[key] = gradient.tolist()
        weights -= 0.5 * gradient
        return weights, gradient

    shim.finish_update(take)
    assert got == {(shim.id, "weight"): [[3.0, -4.0]], (shim.id, "bias"): [1.0]}
    assert weights(shim) == [-0.5, 4.0, 0.0]
    assert all(p.grad is None for p in shim.module.parameters())


def test_gradients_that_are_not_finite_are_given_to_no_function(shim):
    update(shim, [3.0, float("inf")])
    shim.finish_update(lambda key, weights, gradient: pytest.fail(f"{key} was given"))
    assert all(p.grad is None for p in shim.module.parameters())


def test_predictions_follow_what_a_function_changes_later():
    shim, changed = TorchShim(linear(), forward=run, precision="bf16"), []
    x = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    shim.predict(x)
    update(shim, [1.0, 1.0])
    shim.finish_update(lambda key, weights, gradient: changed.append(weights))
    for array in changed:
        array += 1.0
    assert shim.predict(x).item() == 6.5


def test_a_shim_may_be_moved_before_its_weights_come():
    empty = TorchShim(None, forward=run, precision="fp32")
    empty.to_device("cpu", 0)
    empty.set_module(linear())
    assert weights(empty) == [1.0, 2.0, 0.5]


def test_a_step_without_gradients_changes_nothing(shim):
    before = weights(shim)
    shim.finish_update(adamw_v1(LEARN_RATE, L2=0.5))
    assert weights(shim) == before


def test_schedules_of_the_thinc_optimizer_are_followed(shim):
    optimizer = adamw_v1(iter([0.1, 0.0]), L2=0.0, grad_clip=0.0)
    update(shim, [1.0, 1.0])
    shim.finish_update(optimizer)
    once = weights(shim)
    optimizer.step_schedules()
    update(shim, [1.0, 1.0])
    shim.finish_update(optimizer)
    assert weights(shim) == once


def test_thincs_adam_is_torchs_adamw(shim):
    theirs = linear()
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.05, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.0)
    optimizer = Adam(0.05, beta1=0.8, beta2=0.9, eps=1e-7, L2=0.0, grad_clip=0.0)
    for x in ([1.0, 2.0], [-3.0, 0.5], [0.2, 0.1]):
        update(shim, x)
        shim.finish_update(optimizer)
        theirs(torch.tensor([x])).sum().backward()
        adamw.step()
        adamw.zero_grad()
    assert weights(shim) == pytest.approx([*theirs.weight.flatten().tolist(), theirs.bias.item()], rel=1e-5)


def test_another_optimizer_begins_with_no_past(shim):
    first, second = adamw_v1(LEARN_RATE), adamw_v1(LEARN_RATE)
    update(shim, [1.0, 1.0])
    shim.finish_update(first)
    assert shim.steps.adamw_for(first).steps.item() == 1
    assert shim.steps.adamw_for(second).steps.item() == 0


def test_predictions_keep_no_graph(shim):
    assert not shim.predict(torch.ones(1, 2)).requires_grad


def test_bf16_predictions_follow_the_weights(optimizer):
    shim = TorchShim(linear(weight=(1.0, 1.001)), forward=run, precision="bf16")
    x = torch.ones(1, 2, dtype=torch.bfloat16)
    assert shim.predict(x).dtype == torch.bfloat16
    assert shim.predict(x).item() == 2.5  # 1.001 is no bfloat16
    output, backprop = shim.begin_update(torch.ones(1, 2))
    assert output.dtype == torch.bfloat16
    backprop([output], [torch.ones_like(output)])
    shim.finish_update(optimizer)
    assert shim.predict(x).item() == pytest.approx(2.5 - 3 * FIRST_STEP, rel=1e-2)
    assert shim.module.weight.dtype == torch.float32


def test_bytes_bring_the_weights_back_exactly(shim):
    other = TorchShim(linear(weight=(7.0, 8.0)), forward=run, precision="fp32")
    data = shim.to_bytes()
    assert other.to_bytes() != data
    other.from_bytes(data)
    assert weights(other) == weights(shim)
    assert other.to_bytes() == data


def test_weights_of_another_shape_are_refused(shim):
    with pytest.raises(ValueError, match="do not fit"):
        TorchShim(nn.Linear(3, 1), forward=run).from_bytes(shim.to_bytes())


def test_a_shim_without_weights_survives_the_disk(tmp_path: Path):
    path = tmp_path / "model"
    empty = Model("empty", lambda model, X, is_train: (X, None), shims=[TorchShim(forward=run)])
    empty.to_disk(path)
    empty.from_disk(path)
    with pytest.raises(ValueError, match="no weights yet"):
        empty.shims[0].predict(torch.ones(1, 2))


def test_a_copy_learns_alone(shim, optimizer):
    update(shim, [1.0, 1.0])
    other = shim.copy()
    before = weights(other)
    assert other.id != shim.id
    assert all(p.grad is None for p in other.module.parameters())
    shim.finish_update(optimizer)
    assert weights(other) == before
    assert weights(shim) != before


def test_an_unknown_precision_lists_the_known():
    with pytest.raises(ValueError, match="one of auto, fp32, bf16, fp16, but got 'int8'"):
        TorchShim(linear(), forward=run, precision="int8")
