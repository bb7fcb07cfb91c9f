"""Attention over short rows: which pieces may see which, and the product itself, by device and dtype.

Legend: B rows, T pieces a row, H heads, C channels a head.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spacy_electra.model.dropout import Dropout


def within_segments(segments: Tensor) -> Tensor | None:
    """(B, 1, T, T) true where two pieces stand in the same stretch; None where all rows are one full stretch.

    segments: (B, T) int64, 0 is padding. Padding sees padding, so that no softmax runs over nothing.
    """
    if bool((segments == 1).all()):
        return None
    return (segments[:, :, None] == segments[:, None, :])[:, None]


def within_lengths(lengths: Tensor, width: int) -> Tensor | None:
    """(B, 1, 1, T) true for the first `lengths` (B,) pieces of each row; None where all rows are full."""
    if bool((lengths == width).all()):
        return None
    return (torch.arange(width, device=lengths.device) < lengths[:, None])[:, None, None]


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, drop: Dropout | None = None) -> Tensor:
    """softmax(q k' / sqrt(C)) v of (B, H, T, C) tensors, where `allowed` (broadcast to (B, H, T, T)) is true.

    On CPUs in half precision, and wherever dropout acts on the weights, two batched products (torch's fused CPU kernel
    was measured slower there); torch's fused kernel otherwise.
    """
    if drop is None and (q.is_cuda or q.dtype == torch.float32):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    scores = torch.matmul(q * (1.0 / math.sqrt(q.shape[-1])), k.transpose(-1, -2))
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return torch.matmul(drop(weights) if drop else weights, v)
