"""Dropout from torch's generator: what share is dropped, and what makes up for it."""

import pytest
import torch

from spacy_electra.model.network.dropout import RANDOM_LEVELS, TorchDropout


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("lane", range(4))
def test_every_number_is_dropped_as_often_as_the_rate_says(rate: float, lane: int) -> None:
    """Four numbers share a draw of the generator; five standard deviations of a million."""
    torch.manual_seed(0)
    dropped = (TorchDropout(rate)(torch.ones(4_000_000))[lane::4] == 0).double().mean().item()
    assert abs(dropped - rate) < 1 / RANDOM_LEVELS + 5 * (rate * (1 - rate) / 1e6) ** 0.5


def test_what_is_kept_makes_up_for_what_is_dropped() -> None:
    torch.manual_seed(0)
    mixed = TorchDropout(0.1)(torch.full((3_000_001,), 2.0))
    rounded = round(0.1 * RANDOM_LEVELS) / RANDOM_LEVELS
    assert mixed.unique().tolist() == pytest.approx([0.0, 2.0 / (1 - rounded)], rel=1e-6)
    assert mixed.double().mean().item() == pytest.approx(2.0, abs=2e-3)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (TorchDropout(0.5)(torch.ones(1_000_000)) == 0).float()
    for distance in (1, 2, 3, 4):
        both = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert both == pytest.approx(0.25, abs=3e-3)


def test_gradients_pass_where_numbers_did() -> None:
    x = torch.ones(7, 5, requires_grad=True)
    mixed = TorchDropout(0.5)(x)
    mixed.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, mixed.detach())


def test_the_seed_decides() -> None:
    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return TorchDropout(0.3)(torch.ones(50, 3, dtype=torch.bfloat16))

    assert torch.equal(dropped(1), dropped(1))
    assert not torch.equal(dropped(1), dropped(2))


def test_a_rate_next_to_one_keeps_a_finite_scale() -> None:
    assert TorchDropout(0.9999999)(torch.ones(100_000)).isfinite().all()
