"""Divide sequences into micro-batches of bounded size, and these into buckets of similar length. Pure numpy.

Operations on single tokens run over a whole micro-batch at once, without padding. Only attention pads, bucket by
bucket.

Legend: S tokens of all sequences, P tokens of all micro-batches, N rows of the output.
"""

from dataclasses import dataclass

import numpy as np

from spacy_electra.model.inference.packed import PackedBatch

OCTAVE = 16  # sizes of a micro-batch between a power of two and the next: oneDNN prepares kernels for every size anew
SMALLEST = 8  # what the smallest are rounded up to; with fewer rows torch takes other kernels for matrix products
LENGTHS_PER_OCTAVE = 8  # of attention between a power of two and the next, in steps of `SMALLEST` at least


@dataclass(frozen=True)
class BucketLimits:
    """Limits of a micro-batch and of a bucket."""

    max_batch_tokens: int  # of a micro-batch, padding included; a sequence too long for that stands alone
    bucket_cost: int  # tokens of padding over which attention takes as long as over one more bucket


@dataclass(frozen=True)
class LengthBucket:
    """Sequences that attention pads to one width."""

    width: int
    lengths: np.ndarray  # (sequences,) int64 tokens

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def is_even(self) -> bool:
        """All sequences have the same length, so none is padded."""
        return self.tokens == len(self.lengths) * self.width

    @property
    def filled(self) -> np.ndarray:
        """(tokens,) int64 place of each token in sequences x width."""
        return np.flatnonzero(np.arange(self.width) < self.lengths[:, None])

    @property
    def padded(self) -> np.ndarray:
        """(sequences x width,) int64 token at each place, the last of its sequence behind the end."""
        end = np.cumsum(self.lengths)[:, None]
        places: np.ndarray = np.minimum(end - self.lengths[:, None] + np.arange(self.width), end - 1)
        return places.ravel()


@dataclass(frozen=True)
class MicroBatch:
    """Buckets one after another, then padding up to a round number of tokens."""

    buckets: tuple[LengthBucket, ...]
    size: int  # tokens, padding included

    @property
    def tokens(self) -> int:
        """Number of tokens of the sequences, without padding."""
        return sum(bucket.tokens for bucket in self.buckets)


@dataclass(frozen=True)
class BucketPlan:
    """The order in which a packed batch goes through an encoder, micro-batch by micro-batch."""

    micro_batches: list[MicroBatch]
    source: np.ndarray  # (P,) int64 token of the packed batch at each place; any one at padding
    output_index: np.ndarray  # (N,) int64 place of the vector of each row of the answer


def plan(batch: PackedBatch, limits: BucketLimits) -> BucketPlan:
    """Micro-batches for the sequences of a packed batch, the longest first."""
    order = np.argsort(-batch.lengths, kind="stable")
    micro_batches = divide(batch.lengths[order], limits)
    tokens = _tokens_of(order, batch)
    place = np.empty_like(tokens)
    source, begin, size = [tokens[:0]], 0, 0
    for micro_batch in micro_batches:
        own = tokens[begin : begin + micro_batch.tokens]
        place[own] = np.arange(size, size + len(own))
        source += [own, np.zeros(micro_batch.size - len(own), dtype=np.int64)]
        begin, size = begin + len(own), size + micro_batch.size
    return BucketPlan(micro_batches, source=np.concatenate(source), output_index=place[batch.output_index])


def _tokens_of(order: np.ndarray, batch: PackedBatch) -> np.ndarray:
    """(S,) the tokens of the sequences in this order."""
    length, start = batch.lengths[order], batch.cu_seqlens[:-1][order]
    return np.repeat(start - np.cumsum(length) + length, length) + np.arange(batch.tokens)


def divide(lengths: np.ndarray, limits: BucketLimits) -> list[MicroBatch]:
    """Micro-batches for sequences of `lengths` (B,) tokens, sorted with the longest first; the order is kept."""
    answer = []
    for parts in _cut(lengths, limits):
        buckets = tuple(LengthBucket(attention_width(int(length[0])), length) for length in parts)
        tokens = sum(bucket.tokens for bucket in buckets)
        answer.append(MicroBatch(buckets, size=rounded(tokens, most=limits.max_batch_tokens)))
    return answer


def _cut(lengths: np.ndarray, limits: BucketLimits) -> list[list[np.ndarray]]:
    """The lengths of each bucket of each micro-batch."""
    answer: list[list[np.ndarray]] = []
    begin = used = padding = width = 0  # of the open bucket: its first sequence; tokens before it in its micro-batch
    for number, length in enumerate(lengths.tolist()):
        own_width = attention_width(length)
        if number == 0:
            answer, width = [[]], own_width
        elif padding + width - own_width > limits.bucket_cost:
            answer[-1].append(lengths[begin:number])
            used += (number - begin) * width
            begin, width, padding = number, own_width, 0
        is_full = used + (number - begin + 1) * width > limits.max_batch_tokens
        if is_full and number > 0 and (used or number > begin):
            if number > begin:
                answer[-1].append(lengths[begin:number])
            answer.append([])
            begin, width, padding, used = number, own_width, 0, 0
        padding += width - own_width
    if answer:
        answer[-1].append(lengths[begin:])
    return answer


def attention_width(length: int) -> int:
    """The smallest width to which attention pads a sequence of `length` tokens.

    torch sums the products of a row in an order that depends on its width. If buckets hold sequences of one such width
    alone, the sums do not depend on the rest of the batch.
    """
    step = max(SMALLEST, (1 << length.bit_length() - 1) // LENGTHS_PER_OCTAVE)
    return -(-length // step) * step


def rounded(tokens: int, *, most: int) -> int:
    """The next larger size of a fixed set of micro-batch sizes.

    most: upper limit for rounding up.
    """
    step = max(SMALLEST, (1 << tokens.bit_length() - 1) // OCTAVE)
    return min(-(-tokens // step) * step, max(tokens, most))
