"""What the processor can do, as torch knows it. It has no public names for these questions, older releases none."""

import torch


def has_amx() -> bool:
    """Matrix tiles, of bfloat16 and of bytes."""
    return _answer("_is_amx_tile_supported")


def has_avx512_bf16() -> bool:
    return _answer("_is_avx512_bf16_supported")


def has_vnni() -> bool:
    """Products of bytes and of 16-bit integers."""
    return _answer("_is_vnni_supported")


def has_bf16_products() -> bool:
    """oneDNN's products of packed bfloat16 weights, which AVX512 is enough for."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _answer(question: str) -> bool:
    return bool(getattr(torch.cpu, question, bool)())
