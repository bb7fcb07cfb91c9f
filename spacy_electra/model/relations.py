"""The loss between the relations of a student and its teacher (Wang et al. 2021, MiniLMv2, section 3.1).

A relation is the softmax over scaled products of queries with queries, keys with keys, or values with values. The heads
of an encoder are concatenated and split into relation heads, as many on both sides, so widths and heads may differ.

Legend: B rows, T pieces a row, R relation heads, D width of the student, E of the teacher.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spacy_electra.model.network.attention import Mask
from spacy_electra.model.network.sampling import at_least_float32

QKV = 3  # queries, keys, values
SCORES_AT_ONCE = {"cpu": 2**18}  # so that they stay in a processor's cache
MOST_SCORES = 2**26  # elsewhere: 256 MB in float32


def relation_loss(student: Tensor, teacher: Tensor, mask: Mask | None, is_real: Tensor, *, heads: int) -> Tensor:
    """() the sum over real positions of KL(teacher || student), averaged over relation heads, summed over q, k and v.

    student, teacher: (B, T, 3 x D) and (B, T, 3 x E) queries, keys and values side by side, the teacher's without
        gradient.
    mask: which pieces may attend to which.
    is_real: (B, T) false at padding.
    heads: R, which divides D and E.
    """
    bias = None if mask is None else mask.bias(1, torch.promote_types(student.dtype, torch.float32))[:, None]
    loss: Tensor = RelationLoss.apply(student, teacher, bias, is_real, heads)
    return loss


class RelationLoss(torch.autograd.Function):
    """The loss and its gradient in one pass, so that relations, R x T numbers a piece, are not kept."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, bias: Tensor | None, is_real: Tensor, heads: int) -> Tensor:
        """bias: (B, 1, T or 1, T) what is added to the scores, None where all pieces are seen."""
        B, T, _ = student.shape
        gradient = at_least_float32(torch.empty_like(student))
        weight = is_real.to(gradient.dtype)[:, None, :, None] / heads
        rows = max(1, SCORES_AT_ONCE.get(student.device.type, MOST_SCORES) // (heads * T * T))
        loss = gradient.new_zeros(())
        for first in range(0, B, rows):
            part = slice(first, first + rows)
            added = None if bias is None else bias[part]
            pairs = zip(student[part].chunk(QKV, dim=-1), teacher[part].chunk(QKV, dim=-1), strict=True)
            for slot, (ours, theirs) in zip(gradient[part].chunk(QKV, dim=-1), pairs, strict=True):
                x, y = _cut(ours.to(slot.dtype), heads), _cut(theirs.to(slot.dtype), heads)
                loss += _diverge(x, y, added, weight[part], slot)
        ctx.save_for_backward(gradient)
        ctx.dtype = student.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(ctx.dtype), None, None, None, None


def _cut(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, R, T, D / R)."""
    parts: Tensor = x.unflatten(-1, (heads, -1))
    return parts.transpose(1, 2).contiguous()


def _diverge(student: Tensor, teacher: Tensor, bias: Tensor | None, weight: Tensor, gradient: Tensor) -> Tensor:
    """() the weighted sum of the divergences of relations of (B, R, T, ...), whose gradient is put into (B, T, D)."""
    scores, targets = _scores(student, bias), _scores(teacher, bias)
    probabilities, wanted = scores.softmax(dim=-1), targets.softmax(dim=-1)
    distance = _log_sum(scores, probabilities) - _log_sum(targets, wanted)
    distance += targets.sub_(scores).mul_(wanted).sum(dim=-1, keepdim=True)
    d_scores = probabilities.sub_(wanted).mul_(weight / math.sqrt(student.shape[-1]))
    d_x = (d_scores + d_scores.transpose(-1, -2)) @ student
    gradient.unflatten(-1, (student.shape[1], -1)).copy_(d_x.transpose(1, 2))
    return (distance * weight).sum()


def _scores(x: Tensor, bias: Tensor | None) -> Tensor:
    """(B, R, T, T) scaled products of (B, R, T, C) with itself, with the bias added."""
    scores = (x / math.sqrt(x.shape[-1])) @ x.transpose(-1, -2)
    return scores if bias is None else scores.add_(bias)


def _log_sum(scores: Tensor, probabilities: Tensor) -> Tensor:
    """(..., 1) log of the sum of exponentials; the highest probability is at least 1 / T, so its logarithm is safe."""
    return scores.amax(dim=-1, keepdim=True) - probabilities.amax(dim=-1, keepdim=True).log()
