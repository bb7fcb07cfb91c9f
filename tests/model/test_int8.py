"""Products of bytes and weights in bytes, against what they stand for."""

import pytest
import torch
from torch import nn

from spacy_electra.model.files.int8 import (
    MAX_INT8,
    compressed,
    expanded,
    linear_weights,
    quantize_weight,
)


def made(seed=0, inputs=48, outputs=32):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).requires_grad_(False)


def test_a_weight_is_at_most_half_a_level_off():
    weight = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    quantized = quantize_weight(weight)
    off = (quantized.restored() - weight).abs()
    assert (off <= quantized.scale[:, None] / 2 * (1 + 1e-5)).all()
    assert quantized.values.abs().max() <= MAX_INT8


def test_the_scale_of_a_row_comes_from_its_largest_weight():
    """Row [1, -2] has values of a little over 2/127; a row of zeros stays zeros."""
    quantized = quantize_weight(torch.tensor([[1.0, -2.0], [0.0, 0.0]]))
    assert quantized.values.tolist() == [[63, -127], [0, 0]]
    assert quantized.scale[0].item() == pytest.approx(2 / 127, rel=1e-3)
    assert quantized.restored()[1].tolist() == [0.0, 0.0]


def test_what_was_rounded_is_rounded_to_itself():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    once = quantize_weight(weight)
    again = quantize_weight(once.restored())
    assert torch.equal(once.values, again.values)
    assert torch.equal(once.scale, again.scale)


def test_weights_on_disk_come_back_as_they_are_rounded():
    module = nn.Sequential(made(), nn.LayerNorm(32), nn.Embedding(10, 4).requires_grad_(False))
    weights = module.state_dict()
    stored = compressed(weights, linear=linear_weights(module))
    back = expanded(stored)
    assert back.keys() == weights.keys()
    assert {t.dtype for t in back.values()} == {torch.float32}
    assert torch.equal(back["0.weight"], quantize_weight(weights["0.weight"]).restored())
    assert torch.equal(back["2.weight"], weights["2.weight"].half().float())
    assert stored["0.weight"].dtype == torch.int8


def test_weights_that_are_not_made_smaller_come_back_as_they_are():
    weights = made().state_dict()
    assert expanded(weights).keys() == weights.keys()
    assert all(torch.equal(expanded(weights)[name], weights[name]) for name in weights)
