"""Linear layers in int8: for predictions on processors that multiply bytes fast, and for weights on disk.

A weight has one scale for each output channel, and zero is zero. An input has a scale and a lowest number for each row,
so that a row's answer does not depend on what stands beside it. Source of per-channel and per-token scales: Yao et al.
2022, ZeroQuant, section 4.1.

Legend: M rows, K inputs, N outputs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spacy_electra.model.capability import has_amx, has_vnni
from spacy_electra.model.keys import nearest

LEVELS = 127  # on either side of zero
SCALE_BITS = 12  # of a scale's 23 fraction bits are 0, so that LEVELS x scale is exact and a second look finds it again
BEHIND = 8  # bytes after the levels of a row: what one is worth and the lowest number, in float32
TINY = 1e-12  # in place of the scale of a channel that is all zeros
SCALE = ".scale"  # behind a weight's name on disk
ATTENTION, FEED_FORWARD = "attention", "feed_forward"


@dataclass(frozen=True)
class Quantized:
    """A weight in levels."""

    levels: Tensor  # (N, K) int8, or int16 in `model.native`
    scale: Tensor  # (N,) float32

    def restored(self) -> Tensor:
        """(N, K) float32."""
        return self.levels * self.scale[:, None]


def quantize(weight: Tensor) -> Quantized:
    """Round a weight (N, K) to bytes. What `restored` gives is rounded to the same bytes and scales again."""
    largest = weight.float().abs().amax(dim=1).clamp_min(TINY)
    bits = (largest / LEVELS).view(torch.int32)
    cut = (1 << SCALE_BITS) - 1
    scale = ((bits + cut) & ~cut).view(torch.float32)  # rounded up, so that no level is beyond the last
    return Quantized(levels=(weight.float() / scale[:, None]).round().to(torch.int8), scale=scale)


class Int8Linear(nn.Module):
    """x W' + b from products of bytes, in oneDNN's kernel; what goes in and comes out is float32.

    A row of inputs is lowest + scale * levels, so its answer is scale * (levels W') + lowest * (sums of W) + b. Levels
    are unsigned: for signed ones oneDNN has no fast kernel on processors with AVX512-VNNI alone. They come from
    torch's kernel for tables of embeddings, in one pass; it puts both numbers behind them, where the weight is zero.
    """

    scale: Tensor
    sums: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        quantized = quantize(linear.weight.detach())
        levels = nn.functional.pad(quantized.levels, (0, BEHIND))
        self.register_buffer("packed", torch.ops.onednn.qlinear_prepack(levels, None), persistent=False)
        self.register_buffer("scale", quantized.scale, persistent=False)
        self.register_buffer("zeros", torch.zeros_like(quantized.scale, dtype=torch.int64), persistent=False)
        self.register_buffer("sums", quantized.restored().sum(dim=1), persistent=False)
        self.register_buffer("bias", linear.bias.detach().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        rows = torch.ops.quantized.embedding_bag_byte_prepack(x.flatten(0, -2))
        scale, lowest = rows[:, -BEHIND:].contiguous().view(torch.float32).split(1, dim=1)
        products: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 0, self.packed, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        torch.addcmul(self.bias, products, scale, out=products).addcmul_(lowest, self.sums)
        return products.view(*x.shape[:-1], -1)


def with_int8_products(module: nn.Module, *, but: Collection[nn.Module] = ()) -> nn.Module:
    """Put `Int8Linear` in the place of all other linear layers of `module`, which is changed and returned."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear) and child not in but:
                setattr(parent, name, Int8Linear(child))
    return module


class UnknownPartError(ValueError):
    """A config names a part that the model has not got."""


def parts_of(layers: int) -> list[str]:
    """Names of the parts of an encoder that multiply bytes or do not, as `int8_excluded` takes them: two a block."""
    return [part_of(number, name) for number in range(layers) for name in (ATTENTION, FEED_FORWARD)]


def part_of(number: int, name: str) -> str:
    """number: of a block, from 0. name: `ATTENTION` or `FEED_FORWARD`."""
    return f"layer.{number}.{name}"


def check_parts(excluded: Sequence[str], *, layers: int) -> None:
    """Raise UnknownPartError for a name that is none of `parts_of`."""
    known = parts_of(layers)
    for name in excluded:
        if name not in known:
            raise UnknownPartError(
                f"int8_excluded names {name!r}, which is no part of a model of {layers} layers: did you mean "
                f"{nearest(name, known)!r}? There are {known[0]}, {known[1]} and so on up to {known[-1]}."
            )


def multiplies_int8(device: torch.device) -> bool:
    """True for processors with AVX512-VNNI or AMX under a torch that has the kernels for them."""
    has_kernels = hasattr(torch.ops.onednn, "qlinear_prepack") and hasattr(
        torch.ops.quantized, "embedding_bag_byte_prepack"
    )
    return device.type == "cpu" and (has_vnni() or has_amx()) and has_kernels


def compressed(weights: dict[str, Tensor], *, linear: set[str]) -> dict[str, Tensor]:
    """Weights as they go to disk: those named in `linear` in bytes with their scales, all others in float16."""
    answer = {}
    for name, weight in weights.items():
        if name in linear:
            quantized = quantize(weight)
            answer[name], answer[name + SCALE] = quantized.levels, quantized.scale
        else:
            answer[name] = weight.half()
    return answer


def expanded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `compressed` gave, in float32; other weights as they are. Raises ValueError for what it never gives."""
    answer = {}
    for name, weight in weights.items():
        if (scale := weights.get(name + SCALE)) is not None:
            is_scaled = weight.dtype == torch.int8 and weight.dim() == 2 and scale.dtype == torch.float32
            if not is_scaled or scale.shape != weight.shape[:1]:
                raise ValueError(
                    f"the weight {name!r:.80} is {weight.dtype} {tuple(weight.shape)} with {tuple(scale.shape)} "
                    f"scales, expected rows of int8 and one float32 for each"
                )
            answer[name] = Quantized(levels=weight, scale=scale).restored()
        elif not name.endswith(SCALE):
            answer[name] = weight.float() if weight.dtype == torch.float16 else weight
    return answer


def linear_weights(module: nn.Module) -> set[str]:
    """Names, in a module's state, of the weights of its linear layers."""
    return {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
