"""The ELECTRA encoder: embeddings, then post-LayerNorm transformer blocks with one fused QKV projection.

The arithmetic is that of Hugging Face's `ElectraModel` (absolute positions, erf GELU, eps 1e-12). Weights convert both
ways without loss (`files/names.py`).

Legend: B rows, T pieces a row, D width, E embedding width, H heads, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spacy_electra.model.network.attention import Attend, Mask, RowAttention, trainable
from spacy_electra.model.network.dropout import NO_DROPOUT, Dropout

NORM_EPS = 1e-12
LARGEST = 2**24  # of a shape's numbers: products of two of them, in bytes, stay far below 63 bits


@dataclass(frozen=True)
class EncoderShape:
    """The sizes of an encoder, embeddings included. Raises ValueError for impossible ones."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    embedding: int
    vocab: int
    positions: int
    types: int = 2

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            if not is_size(number):
                raise ValueError(f"{name} must be {A_SIZE}, but got {number!r:.40}: no encoder has such a shape.")
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, but got width={self.width} and heads={self.heads}: "
                f"every head takes an equal part. Choose e.g. heads={nearest_divisor(self.width, self.heads)}."
            )


A_SIZE = f"a whole number from 1 to {LARGEST:,}"


def is_size(number: object) -> bool:
    """Whether a value is a whole number that a shape may have."""
    return type(number) is int and 1 <= number <= LARGEST


def nearest_divisor(width: int, heads: int) -> int:
    """The number of heads nearest to `heads` that divides a width."""
    small = [n for n in range(1, math.isqrt(width) + 1) if width % n == 0]
    return min((n for low in small for n in (low, width // low)), key=lambda n: (abs(n - heads), n))


class Embeddings(nn.Module):
    """Word, position and type embeddings, summed and normed. Shared by generator and discriminator."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.word = nn.Embedding(shape.vocab, shape.embedding, dtype=torch.float32)
        self.position = nn.Embedding(shape.positions, shape.embedding, dtype=torch.float32)
        self.token_type = nn.Embedding(shape.types, shape.embedding, dtype=torch.float32)
        self.norm = nn.LayerNorm(shape.embedding, eps=NORM_EPS, dtype=torch.float32)

    def forward(self, ids: Tensor, positions: Tensor, types: Tensor, drop: Dropout = NO_DROPOUT) -> Tensor:
        """(B, T) pieces, their positions and types -> (B, T, E)."""
        return drop(self.norm(self.word(ids) + self.position(positions) + self.token_type(types)))


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, dtype=torch.float32)
        self.output = nn.Linear(width, width, dtype=torch.float32)

    def forward(self, x: Tensor, attend: Attend, drop: Dropout) -> Tensor:
        answer: Tensor = self.output(attend(self.qkv(x), self.heads, drop))
        return answer


class FeedForward(nn.Module):
    """Two linear layers with an erf GELU between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up = nn.Linear(width, inner, dtype=torch.float32)
        self.down = nn.Linear(inner, width, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.down(F.gelu(self.up(x)))
        return answer


class Block(nn.Module):
    """Attention and feed-forward, each added to its input and normed after."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.attention = Attention(shape.width, shape.heads)
        self.norm1 = nn.LayerNorm(shape.width, eps=NORM_EPS, dtype=torch.float32)
        self.feed_forward = FeedForward(shape.width, shape.feed_forward)
        self.norm2 = nn.LayerNorm(shape.width, eps=NORM_EPS, dtype=torch.float32)

    def forward(self, x: Tensor, attend: Attend, drop: Dropout) -> Tensor:
        x = self.norm1(x + drop(self.attention(x, attend, drop)))
        answer: Tensor = self.norm2(x + drop(self.feed_forward(x)))
        return answer


class Body(nn.Module):
    """The part of an encoder behind the embeddings: a projection if the widths differ, then the blocks."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.project = (
            nn.Linear(shape.embedding, shape.width, dtype=torch.float32)
            if shape.embedding != shape.width
            else nn.Identity()
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.is_recomputed = False  # keep the blocks' inputs alone, and compute what is inside again for gradients

    def forward(self, embedded: Tensor, attend: Attend, drop: Dropout = NO_DROPOUT) -> Tensor:
        """(B, T, E) embedded pieces -> (B, T, D)."""
        return self.run_blocks(self.project(embedded), attend, drop)

    def run_blocks(
        self, x: Tensor, attend: Attend, drop: Dropout = NO_DROPOUT, *, first: int = 0, end: int | None = None
    ) -> Tensor:
        """The hidden states (B, T, D) after a range of blocks.

        x: (B, T, D) input of block `first`.
        end: number of the block behind the last one to run; None runs all.
        """
        for number, block in list(enumerate(self.blocks))[first:end]:
            if self.is_recomputed and torch.is_grad_enabled():
                x = checkpoint(_run, block, x, attend, drop, number, use_reentrant=False)
            else:
                x = _run(block, x, attend, drop, number)
        return x

    def qkv(self, x: Tensor, number: int) -> Tensor:
        """(B, T, D) input of block `number` -> its queries, keys and values (B, T, 3 x D) side by side."""
        block: Any = self.blocks[number]
        return cast(Tensor, block.attention.qkv(x))


def _run(block: nn.Module, x: Tensor, attend: Attend, drop: Dropout, number: int) -> Any:
    return block(x, attend, drop.for_block(number))


class Encoder(nn.Module):
    """Embeddings and body: the encoder of a pipeline."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.body = Body(shape)

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        types: Tensor | None = None,
        mask: Mask | None = None,
        drop: Dropout = NO_DROPOUT,
    ) -> Tensor:
        """(B, T) ids -> (B, T, D) hidden states.

        positions, types: (B, T) int64; None counts positions from 0, and sets all types to 0.
        """
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        types = torch.zeros_like(ids) if types is None else types
        attend = RowAttention(mask, trainable)
        hidden: Tensor = self.body(self.embeddings(ids, positions, types, drop), attend, drop)
        return hidden
