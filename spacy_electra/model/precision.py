"""Which floating-point type a device computes in. `auto` asks what the device can do, never how fast it ran."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from spacy_electra.model.capability import has_amx, has_avx512_bf16

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_CAPABILITY = (8, 0)  # NVIDIA Ampere, the first with bfloat16 units
INT8 = "int8"  # of predictions alone
NAMES = {dtype: name for name, dtype in {**PRECISIONS, INT8: torch.int8}.items()}
FP16_CAPABILITY = (7, 0)  # NVIDIA Volta, the first with float16 units


@dataclass(frozen=True)
class Precision:
    """The types of one device. Weights and their updates are float32 whatever these are."""

    prediction: torch.dtype
    training: torch.dtype  # in float16 the shim scales the losses


def check_precision(precision: str, *, known: Collection[str] = PRECISIONS) -> None:
    """Raise ValueError for a name that is neither "auto" nor among `known`."""
    if precision != "auto" and precision not in known:
        raise ValueError(
            f"precision must be one of {', '.join(['auto', *known])}, but got {precision!r}: "
            f'no other kind of arithmetic is built in. Use "auto" for the fastest that the device has units for.'
        )


def choose_precision(precision: str, device: torch.device) -> Precision:
    """The types for `precision` ("auto", "fp32", "bf16", "fp16" or "int8") on `device`.

    "int8" is "auto" but for predictions of encoders that kernels take.
    """
    check_precision(precision, known=[*PRECISIONS, INT8])
    dtype = fastest_dtype(device) if precision in ("auto", INT8) else PRECISIONS[precision]
    return Precision(prediction=dtype, training=dtype)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` has units for it, float16 on older graphics cards, else float32."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= BF16_CAPABILITY:
            return torch.bfloat16
        return torch.float16 if capability >= FP16_CAPABILITY else torch.float32
    if device.type == "cpu" and (has_avx512_bf16() or has_amx()):
        return torch.bfloat16
    return torch.float32
