"""The loss scale for float16, in which small gradients would underflow.

Starts high, is halved after a step whose gradients overflowed (which is skipped) and doubled after many that did not:
Micikevicius et al. 2018, "Mixed precision training", section 3.2; numbers of torch's GradScaler. The scale is on the
device, so the host never waits for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

START = 2.0**16
MAX_SCALE = 2.0**24  # and at least 1, so that neither end is a trap
GROWTH_INTERVAL = 2000  # steps without an overflow before it is doubled


class LossScale:
    """The scale, and the number of steps since it last changed."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.numbers = torch.tensor([START, 0.0], dtype=torch.float32, device=device)  # what a checkpoint keeps

    @property
    def scale(self) -> Tensor:
        """() float32."""
        return self.numbers[0]

    def enlarge(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the gradients of the loss, of any shape, by the scale, at the start of the backward pass."""
        return [(gradient.float() * self.scale).to(gradient.dtype) for gradient in gradients]  # it is no float16 itself

    @torch.no_grad()
    def shrink(self, gradients: Sequence[Tensor]) -> None:
        """Divide the gradients by the scale, in place, after the backward pass."""
        torch._foreach_mul_(list(gradients), 1.0 / self.scale)

    @torch.no_grad()
    def learn(self, is_lost: Tensor) -> None:
        """Update the scale after a step.

        is_lost: () true if its gradients were not finite.
        """
        scale, steps = self.numbers.unbind()
        steps = steps + 1
        is_long = steps >= GROWTH_INTERVAL
        grown = torch.where(is_long, scale * 2, scale)
        self.numbers.copy_(
            torch.stack(
                [
                    torch.where(is_lost, scale / 2, grown).clamp(min=1.0, max=MAX_SCALE),
                    torch.where(is_lost | is_long, 0.0, steps),
                ]
            )
        )
