"""Moving averages of a module's weights, in the table of a thinc optimizer for all layers of a pipeline.

thinc's layers have averages of their own. spaCy scores and saves a pipeline with averaged weights if the optimizer has
any.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from thinc.util import torch2xp, xp2torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Averages = MutableMapping[tuple[int, str], Any]  # (id of a layer or shim, name) -> an array of thinc
MAX_DECAY = 0.9999  # share of the average that stays in a step, however many there were


@torch.no_grad()
def update_averages(averages: Averages, weights: Mapping[tuple[int, str], Tensor], *, steps: int) -> None:
    """Update the averages with the current weights.

    Each step weighs a little more than the one before, as in thinc: the average covers about the last tenth.

    steps: number of steps taken, from 1.
    """
    kept = min((1 + steps) / (10 + steps), MAX_DECAY)
    for key, tensor in weights.items():
        if key not in averages:  # thinc begins at 0, which the first steps would be drawn to
            averages[key] = torch2xp(tensor.detach().clone())
    means = [xp2torch(averages[key]) for key in weights]
    get_ema_multi_avg_fn(kept)(means, [tensor.detach() for tensor in weights.values()], steps)


@contextmanager
def replaced_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace the named parameters by these tensors until the block ends."""
    parameters = {name: p for name, p in module.named_parameters() if name in weights}
    own = {name: p.data for name, p in parameters.items()}
    try:
        for name, p in parameters.items():
            p.data = weights[name]
        yield
    finally:
        for name, p in parameters.items():
            p.data = own[name]
