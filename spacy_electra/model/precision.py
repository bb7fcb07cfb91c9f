"""Which floating-point type a device computes in. `auto` asks what the device can do, never how fast it ran."""

from dataclasses import dataclass

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_CAPABILITY = (8, 0)  # NVIDIA Ampere, the first with bfloat16 units
FP16_CAPABILITY = (7, 0)  # NVIDIA Volta, the first with float16 units


@dataclass(frozen=True)
class Precision:
    """The types of one device. Weights and their updates are float32 whatever these are."""

    prediction: torch.dtype
    training: torch.dtype  # in float16 the shim scales the losses


def check_precision(precision: str) -> None:
    """Raise ValueError for a name that `choose_precision` does not know."""
    if precision != "auto" and precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(['auto', *PRECISIONS])}, but got {precision!r}: "
            f'no other kind of arithmetic is built in. Use "auto" for the fastest that the device has units for.'
        )


def choose_precision(precision: str, device: torch.device) -> Precision:
    """The types for `precision` ("auto", "fp32", "bf16" or "fp16") on `device`."""
    check_precision(precision)
    prediction = fastest_dtype(device) if precision == "auto" else PRECISIONS[precision]
    return Precision(prediction=prediction, training=prediction)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` has units for it, float16 on older graphics cards, else float32."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= BF16_CAPABILITY:
            return torch.bfloat16
        return torch.float16 if capability >= FP16_CAPABILITY else torch.float32
    if device.type == "cpu" and _cpu_multiplies_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_multiplies_bf16() -> bool:
    """AVX512-BF16 or AMX. torch has no public name for the question, and older releases none at all."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
