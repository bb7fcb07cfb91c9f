"""The learning rate of a pretrained encoder below heads that start from zero.

Heads of zeros send the same gradient to all tokens, and Adam turns the smallest gradient into a full step. At the rate
of its heads, all vectors of an encoder become equal within ten steps, and stay so. So the encoder waits until the heads
have begun to learn (as in Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features"). Then its rate rises to one
that suits its width.
"""

import logging
import math
from dataclasses import dataclass
from typing import Literal

from thinc.optimizers import Optimizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformerRate:
    """An optimizer's settings for torch parameters."""

    share: float | Literal["auto"]  # of the learning rate; "auto": such that its peak is at most what suits the module
    delay: int  # first steps in which they stay as they are
    warmup: int  # steps after these in which their rate rises

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that cannot train."""
        if isinstance(self.share, str) and self.share != "auto":
            raise ValueError(f'optimizer: transformer_rate must be a number or "auto", but got {self.share!r}.')
        if not isinstance(self.share, str) and not 0.0 <= self.share < math.inf:
            raise ValueError(
                f"optimizer: transformer_rate must be a finite number of at least 0, but got {self.share}."
            )
        for name, steps in {"transformer_delay": self.delay, "transformer_warmup": self.warmup}.items():
            if steps < 0:
                raise ValueError(f"optimizer: {name} must be a number of steps from 0 on, but got {steps}.")

    def after(self, rate: float, *, peak: float, taken: int | None, highest: float | None) -> float:
        """The rate of the next step.

        rate: current rate of the optimizer.
        peak: highest rate so far.
        taken: number of steps so far; None after the warm-up.
        highest: maximum rate of the module; None for no limit.
        """
        if not isinstance(self.share, str):
            rate *= self.share
        elif highest is not None and peak > highest:
            rate *= highest / peak
        if taken is None or taken >= self.delay + self.warmup:
            return rate
        return rate * max(0, taken + 1 - self.delay) / (self.warmup + 1)


# Of `Adam.v1`, which knows nothing of torch parameters: of an encoder beside heads, and of what has no heads beside it
UNGUARDED = TransformerRate(1.0, delay=0, warmup=0)
GUARDED = TransformerRate("auto", delay=50, warmup=100)


class ZeroRateWatch:
    """Warns once if the rate stays at 0, as a schedule does for a caller of `nlp.update` who never advances it."""

    def __init__(self) -> None:
        self._steps = 0  # in a row at rate 0

    def see(self, optimizer: Optimizer) -> None:
        """Check the rate of a step; a schedule may begin with one step at 0."""
        self._steps = self._steps + 1 if optimizer.learn_rate == 0 else 0
        if self._steps == 2 and optimizer.schedules:
            logger.warning(
                "nothing is learned: the optimizer's learning rate is 0 and its schedule stands still. nlp.update does "
                "not move it on: call optimizer.step_schedules() after each update, or set optimizer.learn_rate."
            )
