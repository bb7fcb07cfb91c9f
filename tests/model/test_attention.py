"""Rows of several widths on one axis, against each row by itself."""

import pytest
import torch

from spacy_electra.model.attention import Block, Blocks, attend, up_to
from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.fused import fuses_products, with_fused_blocks

HEADS, WIDTH = 2, 32
CPU = torch.device("cpu")


def attention_of_row(qkv, length):
    """softmax(q k' / sqrt(C)) v of the first `length` pieces, written out."""
    q, k, v = qkv[:length].float().view(length, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
    weights = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(length, WIDTH)


def block_of(lengths, width):
    used = torch.tensor(lengths)
    return Block(rows=len(lengths), width=width, mask=None if min(lengths) == width else up_to(used, width))


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_each_row_of_a_block_attends_to_itself_alone(dtype, tolerance, with_gradient):
    lengths = [[5, 7], [3, 3, 3], [2]]
    widths = [7, 3, 80]
    blocks = tuple(block_of(*each) for each in zip(lengths, widths, strict=True))
    slots = sum(block.rows * block.width for block in blocks)
    qkv = torch.randn(slots + 4, 3 * WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.set_grad_enabled(with_gradient):
        mixed = attend(qkv, heads=HEADS, mask=Blocks(blocks=blocks, spare=4))
    begin = 0
    for used, width in zip(lengths, widths, strict=True):
        for length in used:
            expected = attention_of_row(qkv[begin : begin + width], length)
            torch.testing.assert_close(mixed[begin : begin + length].float(), expected, atol=tolerance, rtol=0)
            begin += width
    assert (mixed[begin:] == 0).all()
    assert len(mixed) == slots + 4


def encoder():
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
