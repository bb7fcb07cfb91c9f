"""Attention over short rows: which pieces may see which, and the product itself, by device, dtype and shape.

Legend: B rows, T pieces a row, S pieces of all rows, H heads, C channels a head, D = H x C width.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from spacy_electra.model.capability import has_amx
from spacy_electra.model.dropout import Dropout

SHORT = 64  # pieces of a row up to which float32 is no slower


@dataclass(frozen=True, eq=False)
class Mask:
    """Which pieces each piece may see, in the form that a kernel asks for; made once a batch, not once a layer."""

    allowed: Tensor  # (B, 1, T or 1, T) bool
    _biases: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict)

    def bias(self, heads: int, dtype: torch.dtype) -> Tensor:
        """(B * H, T or 1, T) what is added to the scores: 0 where allowed, the lowest number elsewhere."""
        key = (heads, dtype)
        if torch.compiler.is_compiling():  # a compiler sees for itself what is computed twice
            return self._made(heads, dtype)
        if key not in self._biases:
            self._biases[key] = self._made(heads, dtype)
        return self._biases[key]

    def _made(self, heads: int, dtype: torch.dtype) -> Tensor:
        lowest = torch.finfo(dtype).min
        bias = torch.zeros_like(self.allowed, dtype=dtype).masked_fill(~self.allowed, lowest)
        return bias.expand(-1, heads, -1, -1).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Padding:
    """How rows of several lengths become rows of one, for attention alone."""

    mask: Mask
    padded: Tensor  # (rows x width,) int64 the piece that stands at each place, any piece of the row behind its end
    filled: Tensor  # (pieces,) int64 the place of each piece


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of similar length that stand one after another, without padding, on a flat axis of pieces."""

    rows: int
    width: int  # of the longest row
    pieces: int  # of all rows
    padding: Padding | None = None  # None where all rows are of one length


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rows of many lengths on one flat axis: what each piece may see is in its own row."""

    blocks: tuple[Block, ...]
    spare: int  # pieces behind the last row, whose vectors nobody reads


def within_segments(segments: Tensor, *, is_one_stretch: bool = False) -> Mask | None:
    """Two pieces see each other where they stand in the same stretch; None where all rows are one full stretch.

    A stretch is all of one piece: its number comes nowhere else in its row.

    segments: (B, T) int64, 0 is padding. Padding sees padding, so that no softmax runs over nothing. is_one_stretch:
    known to be so; a graphics card is not asked, for that would wait for all that it has still to do, nor is a program
    that is being compiled, which must be the same for all rows.
    """
    if is_one_stretch or (_may_be_asked(segments) and bool((segments == 1).all())):
        return None
    allowed = (segments[:, :, None] == segments[:, None, :])[:, None]
    return Mask(allowed)


def _may_be_asked(segments: Tensor) -> bool:
    return segments.device.type == "cpu" and not torch.compiler.is_compiling()


def within_lengths(lengths: Tensor, width: int) -> Mask | None:
    """The first `lengths` (B,) pieces of each row are seen; None where all rows are full."""
    return None if bool((lengths == width).all()) else up_to(lengths, width)


def up_to(lengths: Tensor, width: int) -> Mask:
    """The first `lengths` (B,) pieces of each row are seen."""
    return Mask((torch.arange(width, device=lengths.device) < lengths[:, None])[:, None, None])


def attend(qkv: Tensor, *, heads: int, mask: Mask | Blocks | None, drop: Dropout | None = None) -> Tensor:
    """softmax(q k' / sqrt(C)) v of queries, keys and values (..., 3 x D) side by side -> (..., D).

    The pieces stand in rows (B, T), or on one axis (S,) that `Blocks` divides into rows.
    """
    if not isinstance(mask, Blocks):
        return _attend(qkv, heads, mask, drop)
    *parts, _ = qkv.split([*(block.pieces for block in mask.blocks), mask.spare])
    mixed = [_attend_block(part, heads, block, drop) for part, block in zip(parts, mask.blocks, strict=True)]
    if mask.spare:
        mixed.append(qkv.new_zeros((mask.spare, qkv.shape[-1] // 3)))
    return torch.cat(mixed)


def _attend_block(qkv: Tensor, heads: int, block: Block, drop: Dropout | None) -> Tensor:
    """(pieces, 3 x D) -> (pieces, D): padded for attention alone."""
    padding = block.padding
    if padding is None:
        return _attend(qkv.view(block.rows, block.width, -1), heads, None, drop).flatten(0, 1)
    rows = qkv.index_select(0, padding.padded).view(block.rows, block.width, -1)
    return _attend(rows, heads, padding.mask, drop).flatten(0, 1).index_select(0, padding.filled)


def _attend(qkv: Tensor, heads: int, mask: Mask | None, drop: Dropout | None) -> Tensor:
    B, T, D3 = qkv.shape
    dtype = None if drop else _fused_dtype(qkv)
    if dtype is not None:
        q, k, v = _parts(qkv.to(dtype), heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.allowed)
        return mixed.transpose(1, 2).reshape(B, T, D3 // 3).to(qkv.dtype)
    q, k, v = _parts(qkv, heads).flatten(1, 2)  # (B * H, T, C) each
    scale = 1.0 / math.sqrt(q.shape[-1])
    if mask is None:
        scores = torch.bmm(q * scale, k.transpose(1, 2))
    else:
        scores = torch.baddbmm(mask.bias(heads, q.dtype), q, k.transpose(1, 2), alpha=scale)
    weights = scores.softmax(dim=-1) if torch.is_grad_enabled() else _softmax(scores)
    if drop is not None:
        weights = drop(weights.view(B, -1, T)).view_as(weights)
    return torch.bmm(weights, v).view(B, heads, T, -1).transpose(1, 2).reshape(B, T, D3 // 3)


def _softmax(scores: Tensor) -> Tensor:
    """Over the last dimension; in half precision torch takes longer than for float32 and both conversions."""
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)


def _parts(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values, (3, B, H, T, C)."""
    B, T, D3 = qkv.shape
    return qkv.view(B, T, 3, heads, D3 // 3 // heads).permute(2, 0, 3, 1, 4)


def _fused_dtype(qkv: Tensor) -> torch.dtype | None:
    """The type in which torch's fused kernel is faster than two batched products; None where it is not.

    On CPUs in half precision its backward pass is several times slower. So is its forward pass without AMX, but short
    rows are as fast in float32, and batched products are prepared anew for every number of rows.
    """
    if qkv.is_cuda or qkv.dtype == torch.float32:
        return qkv.dtype
    if torch.is_grad_enabled():
        return None
    if has_amx() or qkv.dtype == torch.float64:
        return qkv.dtype
    return torch.float32 if qkv.shape[1] <= SHORT else None
