"""Dropout in blocks that learn in kernels of our own: drawn from seeds, never kept."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spacy_electra.model.dropout import KeyedDropout, TorchDropout
from spacy_electra.model.library import learns_in_kernels
from tests.model.native_cases import bf16, made, passes

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        not learns_in_kernels(torch.device("cpu")), reason="no AVX512-BF16, AMX, or no compiled kernels"
    ),
]


class Drawn:
    """Numbers drawn as the kernels draw them, written out; for one block on windows of one length."""

    def __init__(self, rate: float, heads: int, windows: int, length: int):
        self.rate, self.heads, self.length = rate, heads, length
        self.row_seeds = torch.empty(windows * length, dtype=torch.int64)
        self.row_seeds.random_(-(2**63), None, generator=torch.Generator().manual_seed(5))
        self.calls = 0

    def for_block(self, number: int) -> "Drawn":
        self.calls = 0
        return self

    def seeds(self, x: Tensor) -> Tensor:
        return self.row_seeds

    def __call__(self, x: Tensor) -> Tensor:
        """First chances (B, H * T, T), then what attention gives and what the feed-forward layers give, (B, T, D)."""
        uses = [use + 2 for use in range(self.heads)] if self.calls == 0 else [self.calls - 1]
        stays = np.stack([self.stays(use, x.shape[-1]) for use in uses], axis=1)  # (B, uses, T, numbers)
        self.calls += 1
        return x * torch.from_numpy(stays).view(x.shape) / (1.0 - self.rate)

    def stays(self, use: int, count: int) -> np.ndarray:
        """(B, T, count) bool."""
        seed = self.row_seeds.numpy().astype(np.uint64)[:, None]
        with np.errstate(over="ignore"):
            seed = seed + np.uint64(use) * np.uint64(0x9E3779B97F4A7C15)
            low, high = seed.astype(np.uint32), (seed >> np.uint64(32)).astype(np.uint32)
            bits = ((np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)) + low) ^ high
            for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
                bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
        bits = bits ^ (bits >> np.uint32(16))
        return (bits >= np.uint32(round(self.rate * 2**32))).reshape(-1, self.length, count)


@pytest.mark.parametrize(("width", "heads", "windows", "length"), [(64, 2, 3, 40), (128, 1, 2, 130), (64, 4, 9, 17)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_numbers_are_dropped_where_their_seeds_say_so(width, heads, windows, length, rate, request):
    random = torch.Generator().manual_seed(1)
    x, error = (torch.randn(windows, length, width, generator=random) for _ in range(2))

    def with_dropout() -> list[Tensor]:
        body, read = made(width=width, heads=heads), x.clone().requires_grad_()
        answer = body(read, None, Drawn(rate, heads, windows, length)).float()
        answer.backward(error)
        return [answer.detach(), read.grad, *(weight.grad for weight in body.parameters())]

    exact = with_dropout()
    with bf16():
        native = with_dropout()
        request.getfixturevalue("in_torch")
        plain = with_dropout()
    for ours, theirs, wanted in zip(native, plain, exact, strict=True):
        off, usual = ((one - wanted).norm() / wanted.norm().clamp_min(1e-6) for one in (ours, theirs))
        assert off < max(1.25 * usual, 1e-5)
    assert (native[0] != plain[0]).any()


def test_as_many_numbers_are_dropped_as_the_rate_says():
    drawn = Drawn(0.1, heads=1, windows=10, length=100)
    for use in (0, 1, 2):
        assert drawn.stays(use, 256).mean() == pytest.approx(0.9, abs=0.003)
    assert (drawn.stays(0, 256) == drawn.stays(1, 256)).mean() == pytest.approx(0.82, abs=0.01)


def test_what_rows_drop_follows_from_their_keys_alone():
    x, keys = torch.randn(4, 30, 64), torch.tensor([3, 99, -5, 2**60])
    body = made(layers=2)
    with bf16():
        together = body(x, None, KeyedDropout(0.2, keys, network=1))
        alone = torch.cat([body(x[n : n + 1], None, KeyedDropout(0.2, keys[n : n + 1], network=1)) for n in range(4)])
        other = body(x, None, KeyedDropout(0.2, keys, network=0))
    assert torch.equal(together, alone)
    assert not torch.equal(together, other)


def test_blocks_computed_again_drop_the_same():
    body, again = made(layers=2), made(layers=2)
    again.is_recomputed = True
    with bf16():
        for drop in (lambda: TorchDropout(0.3), lambda: KeyedDropout(0.3, torch.tensor([7]), network=0)):
            torch.manual_seed(1)
            one = passes(body, [30, 66], drop())
            torch.manual_seed(1)
            other = passes(again, [30, 66], drop())
            assert all(map(torch.equal, one, other))
            assert not torch.equal(one[0], passes(body, [30, 66])[0])
