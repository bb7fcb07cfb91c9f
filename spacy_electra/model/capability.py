"""What the processor can do, as torch knows it. It has no public names for these questions, older releases none."""

import torch


def has_amx() -> bool:
    """Matrix tiles, of bfloat16 and of bytes."""
    return _answer("_is_amx_tile_supported")


def has_avx512_bf16() -> bool:
    return _answer("_is_avx512_bf16_supported")


def has_vnni() -> bool:
    """Products of bytes."""
    return _answer("_is_vnni_supported")


def _answer(question: str) -> bool:
    return bool(getattr(torch.cpu, question, bool)())
