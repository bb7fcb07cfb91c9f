"""The least that a run needs: worked by hand, and never more than what a pass was seen to keep."""

import pytest
import torch

from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.model.pretrainer import HalfShapes
from spacy_electra.training import least_memory
from spacy_electra.training.least_memory import check_room, row_bytes, weight_bytes
from spacy_electra.training.memory import step_bytes

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=3, width=8, feed_forward=16, heads=2, embedding=4, vocab=20, positions=100)


def test_weights_are_counted_four_times() -> None:
    encoder = Encoder(SHAPE)
    held = sum(p.numel() * p.element_size() for p in encoder.parameters())
    assert weight_bytes(HalfShapes(discriminator=SHAPE, generator=None)) == held + step_bytes(encoder)


def test_a_generator_shares_the_embeddings() -> None:
    alone, both = (weight_bytes(HalfShapes(SHAPE, generator)) for generator in (None, SHAPE))
    assert both - alone == 16 * sum(p.numel() for p in Encoder(SHAPE).body.parameters())


def test_a_row_grows_with_the_square_of_its_window() -> None:
    assert row_bytes(HalfShapes(SHAPE, None)) == 2 * 100 * 3 * 8 + 3 * 100 * 100


def test_a_window_of_a_hundred_thousand_pieces_does_not_fit_into_ten_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_memory, "free_memory", lambda device: 10**10)
    long = EncoderShape(layers=3, width=8, feed_forward=16, heads=2, embedding=4, vocab=20, positions=100_000)
    with pytest.raises(ValueError, match=r"for one row of 100,000 pieces, but 10\.0 GB are free"):
        check_room(HalfShapes(long, None), CPU)
    check_room(HalfShapes(SHAPE, None), CPU)
