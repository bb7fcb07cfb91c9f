"""The kernels of attention against each other, and what each is for."""

import pytest
import torch

from spacy_electra.model.network.attention import (
    MAX_SHORT_ROW,
    AttentionKernel,
    batched,
    sdpa,
    sdpa_in_float32,
    trainable,
    up_to,
)
from spacy_electra.model.network.dropout import NO_DROPOUT, TorchDropout

HEADS, WIDTH = 2, 32


def qkv_of(rows: int, length: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, length, 3 * WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("kernel", [sdpa, batched, trainable, sdpa_in_float32])
@pytest.mark.parametrize("length", [MAX_SHORT_ROW, MAX_SHORT_ROW + 1])
def test_all_kernels_compute_attention(kernel: AttentionKernel, length: int) -> None:
    """The last row is the first 5 pieces alone."""
    qkv, mask = qkv_of(2, length), up_to(torch.tensor([length, 5]), length)
    q, k, v = qkv.double().view(2, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).masked_fill(~mask.allowed, -torch.inf)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(kernel(qkv, HEADS, mask, NO_DROPOUT).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", [sdpa, batched, trainable, sdpa_in_float32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [MAX_SHORT_ROW, MAX_SHORT_ROW + 1])
def test_half_precision_stays_what_it_is(kernel: AttentionKernel, dtype: torch.dtype, length: int) -> None:
    answer = kernel(qkv_of(2, length, dtype), HEADS, None, NO_DROPOUT)
    assert answer.dtype == dtype
    torch.testing.assert_close(answer.float(), sdpa(qkv_of(2, length), HEADS, None), atol=2e-2, rtol=0)


def test_weights_are_dropped_where_that_is_asked_for() -> None:
    torch.manual_seed(0)
    qkv = qkv_of(1, 9)
    dropped = trainable(qkv, HEADS, None, TorchDropout(0.5))
    assert (dropped - trainable(qkv, HEADS, None)).abs().max() > 0.1
