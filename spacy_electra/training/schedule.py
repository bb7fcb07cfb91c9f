"""How far a run is, when it ends, and the learning rate that follows from it; pure.

The rate follows the budget's end, whichever budget that is: steps, epochs or minutes.
"""

from dataclasses import dataclass

WARMUP_STEPS = 10_000  # the paper's, at most


@dataclass(frozen=True)
class Budget:
    """What a run may cost; 0 means no such budget."""

    steps: int
    rows: int  # epochs times rows of an epoch
    seconds: float

    def progress(self, *, step: int, row: int, seconds: float) -> float:
        """Share of the budget that is spent, in [0, 1]: that of the budget which ends first."""
        spent = [
            done / allowed
            for done, allowed in ((step, self.steps), (row, self.rows), (seconds, self.seconds))
            if allowed
        ]
        return min(1.0, max(spent))


def rate_factor(*, progress: float, step: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up times linear decay (Google's `optimization.py` multiplies them).

    Warm-up ends after `warmup` of the budget or 10,000 steps, whichever is first. The first step's rate is 0.
    """
    rising = max(progress / warmup if warmup else 1.0, step / WARMUP_STEPS)
    return min(1.0, rising) * (1.0 - progress)
