"""The backend of torch's own operators, on any device, in the precision of the weights. Training uses it as well.

Legend: N rows of the output, P tokens of a micro-batch, D width.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spacy_electra.model.inference.buckets import BucketLimits, LengthBucket, MicroBatch, divide, plan
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.attention import AttentionKernel, Mask, trainable, up_to
from spacy_electra.model.network.dropout import NO_DROPOUT, Dropout
from spacy_electra.model.network.encoder import Encoder

GPU_BUCKET_COST = 4096  # tokens of padding; docs/experiments/h200.md


class EagerEncoder:
    """An encoder that predicts with torch's operators."""

    def __init__(self, encoder: Encoder, *, kernel: AttentionKernel, max_batch_tokens: int):
        """kernel: attention kernel.
        max_batch_tokens: maximum tokens of a micro-batch, which bounds memory.
        """
        self.encoder = encoder
        self.kernel = kernel
        self.max_batch_tokens = max_batch_tokens

    def __call__(self, batch: PackedBatch) -> Tensor:
        """(N, D) float32."""
        return encode(self.encoder, batch, kernel=self.kernel, max_batch_tokens=self.max_batch_tokens)

    def computed_tokens(self, batch: PackedBatch) -> int:
        limits = limits_for(_device_of(self.encoder), max_batch_tokens=self.max_batch_tokens)
        lengths = -np.sort(-batch.lengths)
        return sum(micro_batch.size for micro_batch in divide(lengths, limits))


def encode(
    encoder: Encoder,
    batch: PackedBatch,
    *,
    max_batch_tokens: int,
    kernel: AttentionKernel = trainable,
    drop: Dropout = NO_DROPOUT,
) -> Tensor:
    """(N, D) float32 vectors of a packed batch, with gradients where they are enabled."""
    device, width = _device_of(encoder), encoder.shape.width
    planned = plan(batch, limits_for(device, max_batch_tokens=max_batch_tokens))
    uneven = [bucket for part in planned.micro_batches for bucket in part.buckets if not bucket.is_even]
    sent = [batch.ids[planned.source], batch.positions[planned.source], planned.output_index]
    sent += [array for bucket in uneven for array in (bucket.lengths, bucket.padded, bucket.filled)]
    ids, positions, output_index, *others = _sent_at_once(sent, device)
    arrays = iter(others)
    vectors = [encoder.embeddings.word.weight.new_zeros((0, width))]
    sizes = [part.size for part in planned.micro_batches]
    for part, own, places in zip(planned.micro_batches, ids.split(sizes), positions.split(sizes), strict=True):
        attend = _attention_of(part, arrays, kernel)
        embedded = encoder.embeddings(own, places, torch.zeros_like(own), drop)
        vectors.append(encoder.body(embedded, attend, drop))
    return torch.cat(vectors).index_select(0, output_index).float()


def _device_of(encoder: Encoder) -> torch.device:
    return encoder.embeddings.word.weight.device


def limits_for(device: torch.device, *, max_batch_tokens: int) -> BucketLimits:
    """The bucket limits of a device. On a CPU a bucket has one width, so that sums do not depend on the batch."""
    return BucketLimits(max_batch_tokens, bucket_cost=0 if device.type == "cpu" else GPU_BUCKET_COST)


def _sent_at_once(arrays: list[np.ndarray], device: torch.device) -> list[Tensor]:
    joined = torch.from_numpy(np.concatenate(arrays)).to(device)
    return list(joined.split([len(array) for array in arrays]))


@dataclass(frozen=True, eq=False)
class _Padding:
    """Pads sequences of several lengths to rows of one, for attention alone."""

    mask: Mask
    padded: Tensor  # (rows x width,) int64 the token that stands at each place
    filled: Tensor  # (tokens,) int64 the place of each token


@dataclass(frozen=True, eq=False)
class _Rows:
    """A length bucket on the device."""

    rows: int
    width: int
    tokens: int
    padding: _Padding | None  # None where all sequences are of one length

    def attend(self, qkv: Tensor, heads: int, kernel: AttentionKernel, drop: Dropout) -> Tensor:
        """(tokens, 3 x D) -> (tokens, D)."""
        padding = self.padding
        if padding is None:
            return kernel(qkv.view(self.rows, self.width, -1), heads, None, drop).flatten(0, 1)
        rows = qkv.index_select(0, padding.padded).view(self.rows, self.width, -1)
        return kernel(rows, heads, padding.mask, drop).flatten(0, 1).index_select(0, padding.filled)


@dataclass(frozen=True, eq=False)
class BucketAttention:
    """Attention of packed sequences, which pads each bucket for itself."""

    buckets: tuple[_Rows, ...]
    padding: int  # tokens behind the last sequence, whose vectors nobody reads
    kernel: AttentionKernel

    def __call__(self, qkv: Tensor, heads: int, drop: Dropout) -> Tensor:
        """(P, 3 x D) -> (P, D)."""
        *parts, _ = qkv.split([*(bucket.tokens for bucket in self.buckets), self.padding])
        pairs = zip(self.buckets, parts, strict=True)
        context = [bucket.attend(part, heads, self.kernel, drop) for bucket, part in pairs]
        if self.padding:
            context.append(qkv.new_zeros((self.padding, qkv.shape[-1] // 3)))
        return torch.cat(context)


def _attention_of(micro_batch: MicroBatch, arrays: Iterator[Tensor], kernel: AttentionKernel) -> BucketAttention:
    """arrays: lengths, padded and filled of the buckets that are not even, on the device, which is not asked for it."""
    buckets = tuple(_rows_of(bucket, arrays) for bucket in micro_batch.buckets)
    return BucketAttention(buckets, padding=micro_batch.size - micro_batch.tokens, kernel=kernel)


def _rows_of(bucket: LengthBucket, arrays: Iterator[Tensor]) -> _Rows:
    padding = None
    if not bucket.is_even:
        lengths, padded, filled = next(arrays), next(arrays), next(arrays)
        padding = _Padding(mask=up_to(lengths, bucket.width), padded=padded, filled=filled)
    return _Rows(rows=len(bucket.lengths), width=bucket.width, tokens=bucket.tokens, padding=padding)


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module in another precision, without gradients: itself in float32, otherwise a copy."""
    return module if dtype == torch.float32 else sharing(module).to(dtype)


def sharing(module: nn.Module) -> nn.Module:
    """A copy without gradients that shares the weights; quantization replaces them in the copy."""
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, shared)
