"""How much losses are enlarged before the backward pass in float16, where small gradients would vanish.

Starts high, is halved after a step whose gradients overflowed (which is not taken) and doubled after many that did not:
Micikevicius et al. 2018, "Mixed precision training", section 3.2; numbers of torch's GradScaler. Lives on the device:
nothing waits for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

START = 2.0**16
MAX_SCALE = 2.0**24  # and at least 1, so that neither end is a trap
GROWTH_INTERVAL = 2000  # steps without an overflow before it is doubled


class LossScale:
    """The scale, and the steps since it last changed."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.numbers = torch.tensor([START, 0.0], dtype=torch.float32, device=device)  # what a checkpoint keeps

    @property
    def scale(self) -> Tensor:
        """() float32."""
        return self.numbers[0]

    def enlarge(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the loss, any shape, as the backward pass starts with them."""
        return [(gradient.float() * self.scale).to(gradient.dtype) for gradient in gradients]  # it is no float16 itself

    @torch.no_grad()
    def shrink(self, gradients: Sequence[Tensor]) -> None:
        """Undo it, in place, where the backward pass has ended."""
        torch._foreach_mul_(list(gradients), 1.0 / self.scale)

    @torch.no_grad()
    def learn(self, is_lost: Tensor) -> None:
        """Follow a step. is_lost: () true where its gradients were not finite."""
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
