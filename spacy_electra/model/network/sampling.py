"""Losses and samples from logits with one softmax; pure.

Legend: N rows of logits, V vocabulary, M columns.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_BLOCK = 64  # pieces summed at once when sampling


def at_least_float32(x: Tensor) -> Tensor:
    """Logits in float32, in which losses and samples are computed; float64 is kept."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] row by row, and the softmax itself, which sampling needs as well.

    torch's own function would compute the softmax three times: for the loss, its gradient and the samples.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(N, V) logits and (N,) target ids -> (N,) losses and (N, V) probabilities without gradient."""
        scores = at_least_float32(logits)
        probabilities = scores.softmax(dim=-1)
        # the highest probability is at least 1 / V, so its logarithm is safe where that of the target's is not
        log_sum = scores.amax(dim=-1) - probabilities.amax(dim=-1).log()
        losses = log_sum - scores.gather(1, target[:, None]).squeeze(1)
        ctx.save_for_backward(probabilities, target)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(probabilities)
        ctx.set_materialize_grads(False)  # no zeros for the probabilities, as many as there are scores
        return losses, probabilities

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        probabilities, target = ctx.saved_tensors
        weight = gradients[0][:, None]
        gradient = probabilities.mul_(weight)  # in their place; autograd refuses a second backward pass
        return gradient.scatter_add_(1, target[:, None], -weight).to(ctx.dtype), None


@torch.no_grad()
def draw(probabilities: Tensor, *, chance: Tensor, size: int | None = None) -> Tensor:
    """Sample one column (N,) for each row of probabilities, by inverting their cumulative sum.

    Gumbel noise, the usual method, needs a random number for each column. The sum runs over blocks of columns first,
    then
    within the selected block: a sum over all columns costs ten times more.

    probabilities: (N, V); they need not sum to 1 and are used as if scaled.
    chance: (N,) uniform random numbers in [0, 1).
    size: sample from the first `size` columns only, without a copy of them; None for all.
    """
    size = probabilities.shape[1] if size is None else size
    missing, last = -probabilities.shape[1] % SAMPLE_BLOCK, (size - 1) // SAMPLE_BLOCK
    blocks = (F.pad(probabilities, (0, missing)) if missing else probabilities).unflatten(1, (-1, SAMPLE_BLOCK))
    sums = blocks[:, : last + 1].sum(dim=-1)
    sums[:, last] = probabilities[:, last * SAMPLE_BLOCK : size].sum(dim=-1)
    heights = sums.cumsum(dim=-1)
    level = chance.to(heights.dtype) * heights[:, -1]
    block = _first_above(heights, level)
    below = F.pad(heights, (1, 0)).gather(1, block[:, None]).squeeze(1)
    inside = blocks.gather(1, block[:, None, None].expand(-1, -1, SAMPLE_BLOCK)).squeeze(1).cumsum(dim=-1)
    column = block * SAMPLE_BLOCK + _first_above(inside, level - below)
    return column.clamp(max=size - 1)  # numbers that are none must not lead outside


def _first_above(heights: Tensor, level: Tensor) -> Tensor:
    """(N,) the first place of each row of rising sums (N, M) that lies above `level` (N,).

    The level is kept below the last sum, so that rounding cannot lead to a place that adds nothing. Sums that are no
    numbers lead to the last place.
    """
    level = torch.minimum(level, torch.nextafter(heights[:, -1], torch.zeros_like(level)))
    place = torch.searchsorted(heights, level[:, None], right=True).squeeze(1)
    return place.clamp(max=heights.shape[1] - 1)
