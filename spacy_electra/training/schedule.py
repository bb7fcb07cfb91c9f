"""Progress of a run, the end of its budget, and the learning rate; pure.

The rate follows the budget, whichever it is: steps, epochs or minutes.
"""

from dataclasses import dataclass

WARMUP_STEPS = 10_000  # the paper's, at most


@dataclass(frozen=True)
class Budget:
    """The budget of a run; 0 means no limit of that kind. Raises ValueError without any limit."""

    steps: int = 0
    rows: int = 0  # epochs times rows of an epoch
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (self.steps or self.rows or self.seconds):
            raise ValueError("a run needs a budget of steps, rows or seconds, but all three are 0: it would never end.")

    def progress(self, *, step: int, row: int, seconds: float) -> float:
        """Share of the budget that is spent, in [0, 1]: the largest of those of steps, epochs and minutes.

        row: global row.
        seconds: of training.
        """
        pairs = ((step, self.steps), (row, self.rows), (seconds, self.seconds))
        return min(1.0, max(spent / allowed for spent, allowed in pairs if allowed))


def rate_factor(*, progress: float, step: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up times linear decay, as in Google's `optimization.py`.

    Warm-up ends after the share `warmup` of the budget or 10,000 steps, whichever is first. The first step's rate is 0.

    progress: share of the budget that is spent.
    step: number of the step, from 0.
    """
    rising = max(progress / warmup, step / WARMUP_STEPS) if warmup else 1.0
    return min(1.0, rising) * (1.0 - progress)
