"""Quantize weights to int8 with a scale for each output channel, on disk and for the int8 kernels.

Quantization is symmetric: zero stays zero. This module also names the parts of an encoder that can be excluded from
int8. Source of per-channel scales: Yao et al. 2022, ZeroQuant, section 4.1.

Legend: K inputs, N outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spacy_electra.model.keys import nearest

MAX_INT8 = 127  # on either side of zero
SCALE_BITS = 12  # of a scale's 23 fraction bits are 0: MAX_INT8 x scale is exact, and quantizing again finds it again
TINY = 1e-12  # in place of the scale of a channel that is all zeros
SCALE = ".scale"  # behind a weight's name on disk
ATTENTION, FEED_FORWARD = "attention", "feed_forward"


@dataclass(frozen=True)
class Quantized:
    """A quantized weight."""

    values: Tensor  # (N, K) int8, or int16 in `inference.native`
    scale: Tensor  # (N,) float32

    def restored(self) -> Tensor:
        """(N, K) float32, dequantized."""
        return self.values * self.scale[:, None]


def quantize_weight(weight: Tensor) -> Quantized:
    """Quantize a weight (N, K) to int8. Quantizing the result of `restored` gives the same values and scales."""
    largest = weight.float().abs().amax(dim=1).clamp_min(TINY)
    bits = (largest / MAX_INT8).view(torch.int32)
    cut = (1 << SCALE_BITS) - 1
    scale = ((bits + cut) & ~cut).view(torch.float32)  # rounded up, so that no level is beyond the last
    return Quantized(values=(weight.float() / scale[:, None]).round().to(torch.int8), scale=scale)


class UnknownPartError(ValueError):
    """A config names a part that the model does not have."""


def parts_of(layers: int) -> list[str]:
    """Names of the parts of an encoder that can be excluded from int8 by `int8_excluded`: two a block."""
    return [part_of(number, name) for number in range(layers) for name in (ATTENTION, FEED_FORWARD)]


def part_of(number: int, name: str) -> str:
    """Name of a part.

    number: of the block, from 0.
    name: `ATTENTION` or `FEED_FORWARD`.
    """
    return f"layer.{number}.{name}"


def check_parts(excluded: Sequence[str], *, layers: int) -> None:
    """Raise UnknownPartError for a name that is not among `parts_of`."""
    known = parts_of(layers)
    for name in excluded:
        if name not in known:
            raise UnknownPartError(
                f"int8_excluded names {name!r}, which is no part of a model of {layers} layers: did you mean "
                f"{nearest(name, known)!r}? There are {known[0]}, {known[1]} and so on up to {known[-1]}."
            )


def compressed(weights: dict[str, Tensor], *, linear: set[str]) -> dict[str, Tensor]:
    """Weights as they are written to disk: linear weights in int8 with their scales, all others in float16.

    linear: names of the linear weights.
    """
    answer = {}
    for name, weight in weights.items():
        if name in linear:
            quantized = quantize_weight(weight)
            answer[name], answer[name + SCALE] = quantized.values, quantized.scale
        else:
            answer[name] = weight.half()
    return answer


def expanded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `compressed` in float32; others unchanged. Raises ValueError for malformed quantized weights."""
    answer = {}
    for name, weight in weights.items():
        if (scale := weights.get(name + SCALE)) is not None:
            is_scaled = weight.dtype == torch.int8 and weight.dim() == 2 and scale.dtype == torch.float32
            if not is_scaled or scale.shape != weight.shape[:1]:
                raise ValueError(
                    f"the weight {name!r:.80} is {weight.dtype} {tuple(weight.shape)} with {tuple(scale.shape)} "
                    f"scales, expected rows of int8 and one float32 for each"
                )
            answer[name] = Quantized(values=weight, scale=scale).restored()
        elif not name.endswith(SCALE):
            answer[name] = weight.float() if weight.dtype == torch.float16 else weight
    return answer


def linear_weights(module: nn.Module) -> set[str]:
    """Names, in a module's state, of the weights of its linear layers."""
    return {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
