"""Blocks inside oneDNN's products against the plain ones."""

from collections.abc import Callable

import pytest
import torch

from spacy_electra.model.inference.backend import machine_of
from spacy_electra.model.inference.onednn import FusedBlock, fused
from spacy_electra.model.network.encoder import Block, Encoder, EncoderShape

SHAPE = EncoderShape(layers=2, width=32, feed_forward=64, heads=2, embedding=16, vocab=50, positions=20)
pytestmark = pytest.mark.skipif(
    not machine_of(torch.device("cpu")).onednn_bf16, reason="no AVX512, or a torch without oneDNN"
)


@pytest.fixture
def make() -> Callable[[], Encoder]:
    def made() -> Encoder:
        torch.manual_seed(0)
        return Encoder(SHAPE).requires_grad_(False)

    return made


def test_fused_blocks_are_the_plain_ones_within_rounding(make: Callable[[], Encoder]) -> None:
    """Against float32, the fused products err no more than plain ones in bfloat16."""
    ids = torch.randint(5, 50, (3, 12), generator=torch.Generator().manual_seed(1))
    exact = make()(ids)
    plain = make().bfloat16()(ids).float()
    lower = fused(make())(ids).float()
    assert (lower - exact).abs().max() <= 1.5 * (plain - exact).abs().max()
    assert (lower - plain).abs().max() < 0.1 * exact.abs().max()


def test_the_encoder_itself_stays_as_it_is(make: Callable[[], Encoder]) -> None:
    encoder = make()
    blocks = fused(encoder).body.blocks
    assert all(isinstance(block, FusedBlock) for block in blocks)
    assert all(isinstance(block, Block) for block in encoder.body.blocks)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
