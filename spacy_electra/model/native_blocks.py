"""Blocks of an encoder in training, in kernels of our own: bfloat16 on CPUs with AVX512-BF16 and without AMX.

One call runs a block forward, another backward. Products are of bfloat16, everything between them is float32, and what
torch keeps for each of some twenty operations is kept once, in bfloat16.

Legend: R rows of all windows, W windows, D width.
"""

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_float, c_int64, c_uint32, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spacy_electra.model.attention import Blocks, Mask
from spacy_electra.model.library import REFUSED, check_answer, is_cut, learns_in_kernels, library

LEVELS = 2**32  # of chance


class _Block(Structure):
    _fields_ = tuple(
        (name, c_void_p)
        for name in (
            *("qkv", "qkv_bias", "output", "output_bias", "gain1", "shift1"),
            *("up", "up_bias", "down", "down_bias", "gain2", "shift2"),
        )
    )


class _Dropout(Structure):
    _fields_ = (("seeds", c_void_p), ("dropped", c_uint32), ("factor", c_float))


class _Batch(Structure):
    _fields_ = (
        ("lengths", c_void_p),
        *((name, c_int64) for name in ("windows", "rows", "width", "inner", "heads")),
        ("dropout", _Dropout),
        ("eps", c_float),
    )


@dataclass(frozen=True, eq=False)
class Around:
    """What a block needs to know beside its input and its parameters."""

    lengths: Tensor  # (W,) int64 of windows that stand one after another
    heads: int
    eps: float
    seeds: Tensor | None = None  # (R,) int64, for dropout
    rate: float = 0.0


class NativeBlock(torch.autograd.Function):
    """A block's vectors from its input and its parameters, in the order of `_Block`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, around: Around, *weights: Tensor) -> Tensor:
        """(R, D) float32 -> (R, D). Raises ValueError for what is not of one shape, and MemoryError."""
        _check(x, around, weights)
        ctx.around = around
        batch = _batch(x, weights, around)
        out = torch.empty_like(x)
        size = _library().spacy_electra_kept_bytes(byref(batch))
        if size < 0:
            check_answer(REFUSED, work="a block's pass")
        kept = torch.empty(size, dtype=torch.uint8, device="cpu")
        status = _library().spacy_electra_forward(
            byref(_pointers(weights)), byref(batch), _at(x), _at(out), _at(kept), c_int64(torch.get_num_threads())
        )
        check_answer(status, work="a block's pass")
        ctx.save_for_backward(kept, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kept, *weights = ctx.saved_tensors
        given = gradients[0].float().contiguous()
        batch = _batch(given, weights, ctx.around)
        read = torch.empty_like(given)
        wanted = [
            torch.empty_like(weight) if weight.dim() == 1 or is_asked else None
            for weight, is_asked in zip(weights, ctx.needs_input_grad[2:], strict=True)
        ]
        status = _library().spacy_electra_backward(
            *(byref(_pointers(weights)), byref(batch), _at(kept), _at(given), _at(read)),
            *(byref(_pointers(wanted)), c_int64(torch.get_num_threads())),
        )
        check_answer(status, work="a block's pass")
        return read, None, *wanted


def learns_natively(x: Tensor, *, feed_forward: int, heads: int) -> bool:
    """True where blocks that read `x` (..., D) in bfloat16 under autocast can run as `NativeBlock`."""
    if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
        return False
    is_bf16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    return is_bf16 and is_cut(width=x.shape[-1], feed_forward=feed_forward, heads=heads) and learns_in_kernels(x.device)


def window_lengths(x: Tensor, mask: Mask | Blocks | None) -> Tensor | None:
    """(W,) how many pieces of `x`, rows (B, T, D) or one axis (S, D), see each other; None where nobody knows."""
    if mask is not None:
        return mask.lengths
    return torch.full((x.shape[0],), x.shape[1], dtype=torch.int64, device="cpu") if x.dim() == 3 else None


def _library() -> CDLL:
    loaded = library("training")
    loaded.spacy_electra_kept_bytes.restype = c_int64
    return loaded


def _batch(x: Tensor, weights: Any, around: Around) -> _Batch:
    return _Batch(
        lengths=around.lengths.data_ptr(),
        windows=len(around.lengths),
        rows=len(x),
        width=x.shape[1],
        inner=weights[6].shape[0],
        heads=around.heads,
        dropout=_dropout(around),
        eps=around.eps,
    )


def _dropout(around: Around) -> _Dropout:
    """The rate is rounded to a multiple of 1 / LEVELS, and what makes up for it is that of the rounded rate."""
    if around.seeds is None:
        return _Dropout(seeds=None, dropped=0, factor=1.0)
    dropped = min(round(around.rate * LEVELS), LEVELS - 1)
    return _Dropout(seeds=around.seeds.data_ptr(), dropped=dropped, factor=LEVELS / (LEVELS - dropped))


def _pointers(tensors: Any) -> _Block:
    return _Block(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def _at(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


def _check(x: Tensor, around: Around, weights: Sequence[Tensor]) -> None:
    """Raise ValueError unless rows, windows, seeds and parameters are of one shape, as the kernels read them."""
    lengths, seeds, width, inner = around.lengths, around.seeds, x.shape[1], weights[6].shape[0]
    if lengths.dtype != torch.int64 or not lengths.is_contiguous() or int(lengths.sum()) != len(x):
        raise ValueError(f"windows of {lengths.tolist()} rows do not make up {len(x)} contiguous ones.")
    if seeds is not None and (seeds.dtype != torch.int64 or seeds.shape != x.shape[:1] or not seeds.is_contiguous()):
        raise ValueError(f"expected {len(x)} seeds of dropout in int64, but got {tuple(seeds.shape)} {seeds.dtype}.")
    vector, wide = (width,), (inner,)
    shapes = [(3 * width, width), (3 * width,), (width, width), vector, vector, vector]
    shapes += [(inner, width), wide, (width, inner), vector, vector, vector]
    for tensor, shape in zip([x, *weights], [x.shape, *shapes], strict=True):
        if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(
                f"a block of width {width} and {inner} takes contiguous float32 {tuple(shape)}, "
                f"but got {tensor.dtype} {tuple(tensor.shape)}."
            )
