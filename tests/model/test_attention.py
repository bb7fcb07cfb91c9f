"""Rows of several widths on one axis, against each row by itself."""

from itertools import chain

import numpy as np
import pytest
import torch

from spacy_electra.model.attention import Block, Blocks, Padding, attend, up_to
from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.fused import fuses_products, with_fused_blocks
from spacy_electra.pipeline.layout import Group

HEADS, WIDTH = 2, 32
CPU = torch.device("cpu")


def attention_of_row(qkv, length):
    """softmax(q k' / sqrt(C)) v of the first `length` pieces, written out."""
    q, k, v = qkv[:length].double().view(length, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
    weights = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(length, WIDTH)


def block_of(lengths):
    group = Group(width=max(lengths), lengths=np.array(lengths))
    rows, padding = len(lengths), None
    if not group.is_even:
        places = map(torch.from_numpy, (group.padded, group.filled))
        padding = Padding(up_to(torch.tensor(lengths), group.width), *places)
    return Block(rows=rows, width=group.width, pieces=group.slots, padding=padding)


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
def test_each_row_of_a_block_attends_to_itself_alone(dtype, tolerance, with_gradient):
    lengths = [[5, 7], [3, 3, 3], [2, 80]]
    pieces = sum(map(sum, lengths))
    qkv = torch.randn(pieces + 4, 3 * WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.set_grad_enabled(with_gradient):
        mask = Blocks(blocks=tuple(map(block_of, lengths)), spare=4)
        mixed = attend(qkv, heads=HEADS, mask=mask)
    begin = 0
    for length in chain(*lengths):
        expected = attention_of_row(qkv[begin:], length)
        torch.testing.assert_close(mixed[begin : begin + length].double(), expected, atol=tolerance, rtol=0)
        begin += length
    assert (mixed[begin:] == 0).all()
    assert len(mixed) == pieces + 4


def test_gradients_of_a_block_are_those_of_each_row_by_itself():
    lengths = [[5, 7], [3, 3, 3], [2, 9]]
    qkv, error = (torch.randn(39, size, dtype=torch.double) for size in (3 * WIDTH, WIDTH))
    error[32:] = 0  # the spare ones
    together, alone = (qkv.clone().requires_grad_() for _ in range(2))
    mask = Blocks(blocks=tuple(map(block_of, lengths)), spare=7)
    (attend(together, heads=HEADS, mask=mask) * error).sum().backward()
    begin = 0
    for length in chain(*lengths):
        row = slice(begin, begin + length)
        (attend(alone[None, row], heads=HEADS, mask=None)[0] * error[row]).sum().backward()
        begin += length
    torch.testing.assert_close(together.grad, alone.grad, atol=1e-12, rtol=0)


def encoder() -> Encoder:
    torch.manual_seed(0)
    shape = EncoderShape(layers=2, width=WIDTH, feed_forward=64, heads=HEADS, embedding=16, vocab=50, positions=20)
    return Encoder(shape).requires_grad_(False)


@pytest.mark.skipif(not fuses_products(CPU, torch.bfloat16), reason="no AVX512, or a torch without oneDNN")
def test_fused_blocks_are_the_plain_ones_within_rounding():
    """Against float32, the fused products err no more than plain ones in bfloat16."""
    ids = torch.randint(5, 50, (3, 12), generator=torch.Generator().manual_seed(1))
    exact = encoder()(ids)
    plain = encoder().bfloat16()(ids).float()
    fused = with_fused_blocks(encoder().bfloat16())(ids).float()
    assert (fused - exact).abs().max() <= 1.5 * (plain - exact).abs().max()
    assert (fused - plain).abs().max() < 0.1 * exact.abs().max()
