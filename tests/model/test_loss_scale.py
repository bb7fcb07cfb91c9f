"""Training in float16: small gradients survive, an overflow costs one step, and the scale follows both."""

import pytest
import torch
from torch import Tensor, nn

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.optim.loss_scale import GROWTH_INTERVAL, MAX_SCALE, START, LossScale
from spacy_electra.model.shim import TorchShim


def follow(*overflows: bool) -> LossScale:
    scale = LossScale()
    for is_lost in overflows:
        scale.learn(torch.tensor(is_lost))
    return scale


def test_an_overflow_halves_the_scale_and_long_peace_doubles_it() -> None:
    assert follow().scale == START
    assert follow(True).scale == START / 2
    assert follow(True, True, False).scale == START / 4
    assert follow(*[False] * (GROWTH_INTERVAL - 1)).scale == START
    assert follow(*[False] * GROWTH_INTERVAL).scale == START * 2
    assert follow(*[False] * (GROWTH_INTERVAL - 1), True, *[False] * (GROWTH_INTERVAL - 1)).scale == START / 2


def test_the_scale_stays_within_bounds() -> None:
    assert follow(*[True] * 200).scale == 1
    assert follow(*[False] * (GROWTH_INTERVAL * 12)).scale == MAX_SCALE


def test_the_scale_goes_as_it_came() -> None:
    scale, gradient = LossScale(), torch.tensor([1e-6, 3.0])
    (large,) = scale.enlarge([gradient])
    assert large.tolist() == pytest.approx([1e-6 * START, 3.0 * START])
    scale.shrink([large])
    assert large.tolist() == pytest.approx([1e-6, 3.0])


class Half(nn.Module):
    """A product in float16 whose gradient towards the weight is the input times that of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


def shim_in(precision: str) -> TorchShim:
    return TorchShim(Half(), forward=lambda module, x: module(x), precision=precision)


def mean_after(shim: TorchShim, gradient: float) -> list[float]:
    """A tenth of the weight's gradient: Adam's first moment after one step, without clip."""
    optimizer = adamw_v1(0.1, L2=0.0, grad_clip=0.0)
    output, backprop = shim.begin_update(torch.tensor([[1.0, 2.0**-10]]))
    backprop([output], [torch.full_like(output, gradient)])
    shim.finish_update(optimizer)
    mean: list[float] = shim.steps.adamw_for(optimizer).means["weight"].flatten().tolist()
    return mean


def test_gradients_below_the_smallest_float16_are_kept() -> None:
    tiny = 2.0**-20  # times the input, 2 ** -10, below 2 ** -24, where float16 ends
    assert torch.tensor(tiny * 2.0**-10).half() == 0
    assert mean_after(shim_in("fp16"), tiny) == pytest.approx([0.1 * tiny, 0.1 * tiny * 2.0**-10], rel=1e-2)


def test_a_step_is_that_of_float32() -> None:
    assert mean_after(shim_in("fp16"), 0.25) == pytest.approx(mean_after(shim_in("fp32"), 0.25), rel=1e-3)


def test_an_overflow_costs_the_step_and_halves_the_scale() -> None:
    shim, optimizer = shim_in("fp16"), adamw_v1(0.1)
    output, backprop = shim.begin_update(torch.tensor([[1.0, 0.5]]))
    backprop([output], [torch.full_like(output, 60000.0)])
    shim.finish_update(optimizer)
    adamw = shim.steps.adamw_for(optimizer)
    assert shim.module.weight.tolist() == [[1.0, 1.0]]
    assert (adamw.steps.item(), adamw.skipped.tolist()) == (0, [1, 1])
    assert adamw.named_state()["loss_scale"].tolist() == [START / 2, 0]


def test_only_float16_has_a_scale() -> None:
    shim, optimizer = shim_in("bf16"), adamw_v1(0.1)
    assert "loss_scale" not in shim.steps.adamw_for(optimizer).named_state()


@pytest.mark.parametrize(("before", "after"), [("fp16", "bf16"), ("fp32", "fp16")])
def test_a_run_may_go_on_in_another_precision(before: str, after: str) -> None:
    optimizer = adamw_v1(0.1)
    shims = [shim_in(precision) for precision in (before, after)]
    old, new = (shim.steps.adamw_for(optimizer) for shim in shims)
    old.means["weight"].fill_(0.25)
    new.load_named_state(old.named_state())
    assert new.means["weight"].tolist() == [[0.25, 0.25]]
    assert new.scale is None or new.scale.scale == START
