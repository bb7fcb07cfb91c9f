"""Products of bytes and weights in bytes, against what they stand for."""

import timeit
from functools import partial

import pytest
import torch
from torch import nn

from spacy_electra.model.int8 import (
    LEVELS,
    Int8Linear,
    compressed,
    expanded,
    linear_weights,
    multiplies_int8,
    quantize,
    with_int8_products,
)

has_units = pytest.mark.skipif(not multiplies_int8(torch.device("cpu")), reason="this processor has no byte products")


def made(seed=0, inputs=48, outputs=32):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).requires_grad_(False)


def test_a_weight_is_at_most_half_a_level_off():
    weight = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    quantized = quantize(weight)
    off = (quantized.restored() - weight).abs()
    assert (off <= quantized.scale[:, None] / 2 * (1 + 1e-5)).all()
    assert quantized.levels.abs().max() <= LEVELS


def test_the_scale_of_a_row_comes_from_its_largest_weight():
    """Row [1, -2] has levels of a little over 2/127; a row of zeros stays zeros."""
    quantized = quantize(torch.tensor([[1.0, -2.0], [0.0, 0.0]]))
    assert quantized.levels.tolist() == [[63, -127], [0, 0]]
    assert quantized.scale[0].item() == pytest.approx(2 / 127, rel=1e-3)
    assert quantized.restored()[1].tolist() == [0.0, 0.0]


def test_what_was_rounded_is_rounded_to_itself():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    once = quantize(weight)
    again = quantize(once.restored())
    assert torch.equal(once.levels, again.levels)
    assert torch.equal(once.scale, again.scale)


@has_units
@pytest.mark.parametrize("inputs", [48, 30])
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])  # on both sides of zero, above it, below it
def test_the_product_is_that_of_the_rounded_numbers(shift, inputs):
    """Worked out in float64 from levels of the weight, and of each row from its lowest number to its highest."""
    linear = made(inputs=inputs)
    x = torch.randn(20, inputs, generator=torch.Generator().manual_seed(1)) + shift
    weight = quantize(linear.weight).restored().double()
    lowest = x.amin(1, keepdim=True)
    scale = (x.amax(1, keepdim=True) - lowest) / 255
    rounded = ((x - lowest) / scale).round().double() * scale + lowest
    expected = rounded @ weight.T + linear.bias.double()
    torch.testing.assert_close(Int8Linear(linear)(x).double(), expected, atol=1e-5, rtol=1e-5)


@has_units
def test_the_product_is_no_slower_by_an_order_than_in_float32():
    """Where oneDNN has no kernel for a product of bytes it takes one that is hundreds of times slower."""
    linear = made(inputs=256, outputs=768)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    exact, rounded = (min(timeit.repeat(partial(one, x), number=1, repeat=5)) for one in (linear, Int8Linear(linear)))
    assert rounded < 10 * exact


@has_units
def test_the_product_is_close_to_that_in_float32():
    linear = made()
    x = torch.randn(200, 48, generator=torch.Generator().manual_seed(1))
    exact = linear(x)
    assert (Int8Linear(linear)(x) - exact).norm() < 0.02 * exact.norm()


@has_units
def test_a_row_does_not_depend_on_the_rows_beside_it():
    layer = Int8Linear(made())
    x = torch.randn(30, 48, generator=torch.Generator().manual_seed(2))
    alone = torch.cat([layer(row[None]) for row in x])
    assert torch.equal(layer(x), alone)
    x[7] *= 1000
    assert torch.equal(layer(x)[:7], alone[:7])


@has_units
def test_rows_of_zeros_give_the_bias():
    linear = made()
    torch.testing.assert_close(Int8Linear(linear)(torch.zeros(2, 48)), linear.bias.expand(2, -1))


@has_units
def test_all_linear_layers_are_replaced():
    module = nn.ModuleDict({"down": made(), "other": nn.Sequential(made(1), nn.LayerNorm(32))})
    with_int8_products(module)
    assert isinstance(module["down"], Int8Linear)
    assert isinstance(module["other"][0], Int8Linear)
    assert isinstance(module["other"][1], nn.LayerNorm)


def test_weights_on_disk_come_back_as_they_are_rounded():
    module = nn.Sequential(made(), nn.LayerNorm(32), nn.Embedding(10, 4).requires_grad_(False))
    weights = module.state_dict()
    stored = compressed(weights, linear=linear_weights(module))
    back = expanded(stored)
    assert back.keys() == weights.keys()
    assert {t.dtype for t in back.values()} == {torch.float32}
    assert torch.equal(back["0.weight"], quantize(weights["0.weight"]).restored())
    assert torch.equal(back["2.weight"], weights["2.weight"].half().float())
    assert stored["0.weight"].dtype == torch.int8


def test_weights_that_are_not_made_smaller_come_back_as_they_are():
    weights = made().state_dict()
    assert expanded(weights).keys() == weights.keys()
    assert all(torch.equal(expanded(weights)[name], weights[name]) for name in weights)
