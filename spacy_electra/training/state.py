"""Where a run stands, apart from its tensors."""

import math
from dataclasses import dataclass, field, fields, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sums:
    """Training losses since the last evaluation and what they were summed over.

    Numbers or float32 tensors () on the model's device: adding never waits for the device, reading does.
    """

    generator: Tensor | float = 0.0  # cross-entropies
    discriminator: Tensor | float = 0.0  # binary cross-entropies
    chosen: Tensor | float = 0.0  # positions that the generator guessed
    judged: Tensor | float = 0.0  # positions that the discriminator judged; 0 where there is none

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def read(self) -> dict[str, float]:
        """As plain numbers by name."""
        return {f.name: float(getattr(self, f.name)) for f in fields(self)}

    def means(self) -> dict[str, float]:
        """Mean losses of the halves there are, by their names."""
        sums = self.read()
        losses = {"generator": sums["generator"] / max(1.0, sums["chosen"])}
        if sums["judged"]:
            losses["discriminator"] = sums["discriminator"] / sums["judged"]
        return losses


@dataclass(frozen=True, eq=False)
class State:
    """What decides how a run goes on."""

    step: int = 0  # optimizer steps taken
    row: int = 0  # the next global row
    seconds: float = 0.0  # of the budget, spent
    best_loss: float | None = None  # lowest dev loss among those that count
    sums: Sums = field(default_factory=Sums)

    def moved(self, **changes: object) -> "State":
        return replace(self, **changes)  # type: ignore[arg-type]


def check_finite(numbers: dict[str, float], *, step: int) -> None:
    """Raise ValueError where training has diverged: nothing after that can be mended."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ValueError(
                f"training diverged: at step {step} the loss of {name} is {number}. Start again with a lower "
                f"training.optimizer.learn_rate or a longer training.warmup; checkpoints are from before."
            )
