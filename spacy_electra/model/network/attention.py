"""Attention over rows of segments: masks, and the torch kernels.

A kernel takes queries, keys and values (B, T, 3 x D) side by side and returns softmax(q k' / sqrt(C)) v, (B, T, D).

Legend: B rows, T pieces a row, H heads, C channels a head, D = H x C width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from spacy_electra.model.network.dropout import NO_DROPOUT, Dropout

HALF = (torch.bfloat16, torch.float16)
MAX_SHORT_ROW = 64  # pieces of a row up to which float32 is no slower than half precision on a CPU without AMX


@dataclass(frozen=True, eq=False)
class Mask:
    """Which pieces may attend to which, in the form that a kernel needs; made once a batch, not once a layer."""

    allowed: Tensor  # (B, 1, T or 1, T) bool
    _biases: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict)

    def bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        """(B * H, T or 1, T) added to the scores: 0 where allowed, the lowest number elsewhere."""
        key = (heads, dtype)
        if torch.compiler.is_compiling():  # a compiler sees for itself what is computed twice
            return self._made(heads, dtype)
        if key not in self._biases:
            self._biases[key] = self._made(heads, dtype)
        return self._biases[key]

    def _made(self, heads: int, dtype: torch.dtype) -> Tensor:
        lowest = torch.finfo(dtype).min
        bias = torch.zeros_like(self.allowed, dtype=dtype).masked_fill(~self.allowed, lowest)
        return bias.expand(-1, heads, -1, -1).flatten(0, 1)


def within_segments(segments: Tensor, *, is_one_segment: bool = False) -> Mask | None:
    """A mask for attention within segments; None if all rows are one full segment.

    segments: (B, T) int64, the segment of each piece in its row, 0 for padding. Padding attends to padding, so that no
        softmax runs over nothing.
    is_one_segment: skips the check. The check of a GPU tensor would wait for all queued work, and a compiled program
        must be the same for all rows.
    """
    if is_one_segment or (_may_be_asked(segments) and bool((segments == 1).all())):
        return None
    allowed = (segments[:, :, None] == segments[:, None, :])[:, None]
    return Mask(allowed)


def _may_be_asked(segments: Tensor) -> bool:
    return segments.device.type == "cpu" and not torch.compiler.is_compiling()


def within_lengths(lengths: Tensor, width: int) -> Mask | None:
    """A mask for attention to the first `lengths` (B,) pieces of each row; None if all rows are full."""
    return None if bool((lengths == width).all()) else up_to(lengths, width)


def up_to(lengths: Tensor, width: int) -> Mask:
    """A mask for attention to the first `lengths` (B,) pieces of each row."""
    return Mask((torch.arange(width, device=lengths.device) < lengths[:, None])[:, None, None])


AttentionKernel = Callable[[Tensor, int, Mask | None, Dropout], Tensor]  # (qkv, heads, mask, drop)


def sdpa(qkv: Tensor, heads: int, mask: Mask | None, drop: Dropout = NO_DROPOUT) -> Tensor:
    """Attention by torch's fused kernel, in the dtype of `qkv`. Does not apply `drop`."""
    q, k, v = _split_heads(qkv, heads)
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.allowed)
    return context.transpose(1, 2).flatten(2)


def batched(
    qkv: Tensor, heads: int, mask: Mask | None, drop: Dropout = NO_DROPOUT, *, softmax: torch.dtype | None = None
) -> Tensor:
    """Attention by two batched matrix multiplications.

    softmax: dtype of the softmax; None for torch's choice.
    """
    B, T, D3 = qkv.shape
    q, k, v = _split_heads(qkv, heads).flatten(1, 2)  # (B * H, T, C) each
    scale = 1.0 / math.sqrt(q.shape[-1])
    if mask is None:
        scores = torch.bmm(q * scale, k.transpose(1, 2))
    else:
        scores = torch.baddbmm(mask.bias(heads, q.dtype), q, k.transpose(1, 2), alpha=scale)
    weights = scores.softmax(dim=-1) if softmax is None else scores.softmax(dim=-1, dtype=softmax).to(scores.dtype)
    weights = drop(weights.view(B, -1, T)).view_as(weights)
    return torch.bmm(weights, v).view(B, heads, T, -1).transpose(1, 2).reshape(B, T, D3 // 3)


def trainable(qkv: Tensor, heads: int, mask: Mask | None, drop: Dropout = NO_DROPOUT) -> Tensor:
    """Attention for passes with gradients: fused, except with dropout, and in half precision off NVIDIA GPUs.

    The backward pass of torch's fused kernel takes 3 to 5 times as long there (docs/experiments/packed-predictions.md).
    """
    if drop.rate or (qkv.dtype in HALF and not qkv.is_cuda):
        return batched(qkv, heads, mask, drop)
    return sdpa(qkv, heads, mask)


def sdpa_in_float32(qkv: Tensor, heads: int, mask: Mask | None, drop: Dropout = NO_DROPOUT) -> Tensor:
    """Attention for predictions in half precision on a CPU without AMX: fused in float32, except for long rows.

    Long rows use batched multiplications, which oneDNN prepares anew for every number of rows. Their softmax in float32
    is faster, conversions included (docs/experiments/packed-predictions.md).
    """
    if qkv.shape[1] <= MAX_SHORT_ROW:
        return sdpa(qkv.float(), heads, mask).to(qkv.dtype)
    return batched(qkv, heads, mask, softmax=torch.float32)


def _split_heads(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values, (3, B, H, T, C)."""
    B, T, D3 = qkv.shape
    return qkv.view(B, T, 3, heads, D3 // 3 // heads).permute(2, 0, 3, 1, 4)


class Attend(Protocol):
    """Attention of one batch. Mask and kernel are chosen before the first block."""

    def __call__(self, qkv: Tensor, heads: int, drop: Dropout) -> Tensor:
        """(..., 3 x D) -> (..., D)."""
        ...


@dataclass(frozen=True, eq=False)
class RowAttention:
    """Attention within rows of one length."""

    mask: Mask | None  # None where every piece sees its whole row
    kernel: AttentionKernel

    def __call__(self, qkv: Tensor, heads: int, drop: Dropout) -> Tensor:
        """(B, T, 3 x D) -> (B, T, D)."""
        return self.kernel(qkv, heads, self.mask, drop)
