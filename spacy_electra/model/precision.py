"""The names of precisions in configs. `inference.backend` chooses what they mean on a device."""

from collections.abc import Collection

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {dtype: name for name, dtype in PRECISIONS.items()}
INT8 = "int8"  # of predictions alone


def check_precision(precision: str, *, known: Collection[str] = PRECISIONS) -> None:
    """Raise ValueError for a name that is neither "auto" nor among `known`."""
    if precision != "auto" and precision not in known:
        raise ValueError(
            f"precision must be one of {', '.join(['auto', *known])}, but got {precision!r}: "
            f'no other kind of arithmetic is built in. Use "auto" for the fastest that the device has units for.'
        )
