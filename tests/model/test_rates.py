import logging

import pytest
import torch
from thinc.api import Adam
from torch import nn

from spacy_electra.model.optim.adamw import Hyperparameters, adamw_v1
from spacy_electra.model.optim.rates import GUARDED, TransformerRate, ZeroRateWatch
from spacy_electra.model.shim import TorchShim


def test_a_transformer_waits_and_then_its_rate_rises_in_even_steps():
    rate = TransformerRate(0.5, delay=2, warmup=3)
    assert [rate.after(0.8, peak=0.8, taken=step, highest=None) for step in range(7)] == pytest.approx(
        [0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.4]
    )


def test_without_a_count_of_steps_the_warm_up_is_over():
    assert TransformerRate(0.5, delay=2, warmup=3).after(0.8, peak=0.8, taken=None, highest=None) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("share", "highest", "expected"),
    [("auto", 0.5, 0.25), ("auto", 4.0, 1.0), ("auto", None, 1.0), (3.0, 0.5, 3.0), (0.0, None, 0.0)],
)
def test_auto_is_the_share_whose_peak_suits_the_module(share, highest, expected):
    rate = TransformerRate(share, delay=0, warmup=0)
    assert rate.after(1.0, peak=2.0, taken=9, highest=highest) == expected  # half of its peak


class Narrow(TorchShim):
    highest_rate = 0.5


def test_a_module_gets_the_share_whose_peak_so_far_suits_it():
    shim = Narrow(nn.Linear(1, 1, bias=False), forward=lambda module, x: module(x), precision="fp32")
    optimizer = adamw_v1(iter([2.0, 4.0, 1.0]), transformer_rate="auto", bias_correction=True, beta1=1e-9, L2=0.0)
    moved = []
    for _ in range(3):
        before = shim.module.weight.item()
        output, backprop = shim.begin_update(torch.ones(1, 1))
        backprop([output])
        shim.finish_update(optimizer)
        optimizer.step_schedules()
        moved.append(before - shim.module.weight.item())
    assert moved == pytest.approx([0.5, 0.5, 0.125], rel=1e-4)  # gradients of 1: a corrected step is the rate


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"transformer_rate": "fast"}, "transformer_rate must be a number or \"auto\", but got 'fast'"),
        ({"transformer_rate": -1.0}, "transformer_rate must be a finite number"),
        ({"transformer_rate": float("nan")}, "transformer_rate must be a finite number"),
        ({"transformer_delay": -1}, "transformer_delay must be a number of steps"),
        ({"transformer_warmup": -1}, "transformer_warmup must be a number of steps"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        adamw_v1(**settings)


def test_an_optimizer_that_says_nothing_of_torch_parameters_is_read_by_the_default():
    adam = Adam(0.5, L2=0.0)
    assert Hyperparameters.of(adam, taken=0).learn_rate == 0.5
    assert Hyperparameters.of(adam, taken=0, highest_rate=0.1, default=GUARDED).learn_rate == 0.0
    assert Hyperparameters.of(adam, taken=150, highest_rate=0.1, default=GUARDED).learn_rate == 0.1


def test_a_schedule_that_nobody_moves_on_from_zero_is_told_once(caplog):
    watch, optimizer = ZeroRateWatch(), adamw_v1(iter([0.0, 0.1]))
    watch.see(optimizer)
    assert not caplog.records  # as schedules begin
    for _ in range(3):
        watch.see(optimizer)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "call optimizer.step_schedules() after each update" in caplog.text


def test_a_schedule_that_moves_on_is_not_told_of(caplog):
    watch, optimizer = ZeroRateWatch(), adamw_v1(iter([0.0, 0.1, 0.0, 0.1]))
    for _ in range(4):
        watch.see(optimizer)
        optimizer.step_schedules()
    assert not caplog.records
