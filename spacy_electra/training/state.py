"""The state of a run, without its tensors."""

import math
from dataclasses import dataclass, field, fields, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of the training losses since the last evaluation, and the counts to divide by.

    Numbers or float32 tensors () on the device of the model: adding never waits for the device, reading does.
    """

    generator: Tensor | float = 0.0  # cross-entropies
    discriminator: Tensor | float = 0.0  # binary cross-entropies
    chosen: Tensor | float = 0.0  # positions that the generator guessed
    judged: Tensor | float = 0.0  # positions that the discriminator judged; 0 where there is none
    teacher: Tensor | float = 0.0  # divergences from a teacher's relations
    compared: Tensor | float = 0.0  # positions whose relations were compared with a teacher's; 0 where there was none

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def read(self) -> dict[str, float]:
        """The sums as plain numbers by name."""
        return {f.name: float(getattr(self, f.name)) for f in fields(self)}

    def means(self) -> dict[str, float]:
        """Mean losses by name: generator, and discriminator and teacher if there are any."""
        sums = self.read()
        losses = {"generator": sums["generator"] / max(1.0, sums["chosen"])}
        if sums["judged"]:
            losses["discriminator"] = sums["discriminator"] / sums["judged"]
        if sums["compared"]:
            losses["teacher"] = sums["teacher"] / sums["compared"]
        return losses


@dataclass(frozen=True, eq=False)
class State:
    """The state from which a run is resumed."""

    step: int = 0  # optimizer steps taken
    row: int = 0  # the next global row
    seconds: float = 0.0  # of the budget, spent
    best_loss: float | None = None  # lowest dev loss among those that count
    lr_scale: float = 1.0  # of the learning rate; halved each time that training diverged and went back
    micro_batch_size: int = 0  # of a forward pass; the sums round as they are cut. 0 where none has run
    asked_micro_batch_size: int = 0  # what the settings said of that, as `memory.asked` has it
    sums: Sums = field(default_factory=Sums)

    def moved(self, **changes: object) -> "State":
        return replace(self, **changes)  # type: ignore[arg-type]


class Diverged(ValueError):
    """Training has diverged, and further steps cannot repair it."""

    def __init__(self, what: str, *, step: int, lr_scale: float):
        super().__init__(
            f"training diverged: at step {step} {what}. Start again with a lower training.optimizer.learn_rate or a "
            f"longer training.warmup; checkpoints are from before."
        )
        self.lr_scale = lr_scale


def check_finite(numbers: dict[str, float], state: State) -> None:
    """Raise Diverged for the first loss that is not finite."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise Diverged(f"the loss of {name} is {number}", step=state.step, lr_scale=state.lr_scale)


def check_skipped(in_a_row: int, state: State, *, most: int) -> None:
    """Raise Diverged after more than `most` skipped steps in a row."""
    if in_a_row > most:
        raise Diverged(
            f"{in_a_row} steps in a row had gradients that are not finite", step=state.step, lr_scale=state.lr_scale
        )
