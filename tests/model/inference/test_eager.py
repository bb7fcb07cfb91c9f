"""Sequences of many lengths on one axis, against each sequence by itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from spacy_electra.model.inference.buckets import BucketLimits
from spacy_electra.model.inference.eager import EagerEncoder, cast, encode, limits_for
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.attention import sdpa
from spacy_electra.model.network.dropout import TorchDropout
from spacy_electra.model.network.encoder import Encoder, EncoderShape

SHAPE = EncoderShape(layers=2, width=32, feed_forward=64, heads=2, embedding=16, vocab=50, positions=100)
LENGTHS = [5, 7, 3, 3, 3, 2, 80, 9, 9]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def make() -> Callable[[], Encoder]:
    def made() -> Encoder:
        torch.manual_seed(0)
        return Encoder(SHAPE)

    return made


@pytest.fixture
def batch() -> PackedBatch:
    """All vectors wanted, from the last to the first."""
    cu_seqlens = np.cumsum([0, *LENGTHS])
    return PackedBatch(
        ids=np.random.default_rng(0).integers(0, SHAPE.vocab, cu_seqlens[-1]),
        positions=np.concatenate([np.arange(length) for length in LENGTHS]),
        cu_seqlens=cu_seqlens,
        output_index=np.arange(cu_seqlens[-1])[::-1].copy(),
    )


def one_by_one(encoder: Encoder, batch: PackedBatch) -> Tensor:
    rows = [torch.from_numpy(row)[None] for row in np.split(batch.ids, batch.cu_seqlens[1:-1])]
    return torch.cat([encoder(row)[0] for row in rows])[torch.from_numpy(batch.output_index)]


@pytest.mark.parametrize("max_batch_tokens", [1, 16, 4096])
@pytest.mark.parametrize("bucket_cost", [0, 4096])
def test_each_sequence_attends_to_itself_alone(
    make: Callable[[], Encoder],
    batch: PackedBatch,
    monkeypatch: pytest.MonkeyPatch,
    max_batch_tokens: int,
    bucket_cost: int,
) -> None:
    """bucket_cost: of a graphics card, whose buckets hold sequences of many lengths."""
    limits = BucketLimits(max_batch_tokens, bucket_cost)
    monkeypatch.setattr("spacy_electra.model.inference.eager.limits_for", lambda device, max_batch_tokens: limits)
    encoder = make().requires_grad_(False)
    answer = EagerEncoder(encoder, kernel=sdpa, max_batch_tokens=max_batch_tokens)(batch)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, one_by_one(encoder, batch), atol=1e-5, rtol=0)


def test_gradients_are_those_of_each_sequence_by_itself(make: Callable[[], Encoder], batch: PackedBatch) -> None:
    error = torch.randn(sum(LENGTHS), SHAPE.width, generator=torch.Generator().manual_seed(0))
    together, alone = make(), make()
    (encode(together, batch, max_batch_tokens=64) * error).sum().backward()
    (one_by_one(alone, batch) * error).sum().backward()
    for (name, p), q in zip(together.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_dropout_changes_the_vectors(make: Callable[[], Encoder], batch: PackedBatch) -> None:
    encoder = make().requires_grad_(False)
    dropped = encode(encoder, batch, max_batch_tokens=64, drop=TorchDropout(0.5))
    assert (dropped - encode(encoder, batch, max_batch_tokens=64)).abs().max() > 0.1


def test_no_sequences_have_no_vectors(make: Callable[[], Encoder]) -> None:
    none = np.zeros(0, dtype=np.int64)
    batch = PackedBatch(none, none, cu_seqlens=np.zeros(1, dtype=np.int64), output_index=none)
    assert encode(make(), batch, max_batch_tokens=64).shape == (0, SHAPE.width)


def test_tokens_are_counted_with_the_padding_of_their_micro_batches(
    make: Callable[[], Encoder], batch: PackedBatch
) -> None:
    """121 tokens make 128. Where none fits beside another they make 80, 9, 9 and 6 times 8."""
    together, apart = (EagerEncoder(make(), kernel=sdpa, max_batch_tokens=most) for most in (4096, 8))
    assert together.computed_tokens(batch) == 128
    assert apart.computed_tokens(batch) == 80 + 9 + 9 + 6 * 8


def test_buckets_of_a_cpu_are_of_one_width() -> None:
    assert limits_for(CPU, max_batch_tokens=64) == BucketLimits(64, bucket_cost=0)
    assert limits_for(torch.device("cuda"), max_batch_tokens=64).bucket_cost > 0


def test_float32_is_the_module_itself_and_less_is_a_copy(make: Callable[[], Encoder]) -> None:
    encoder = make()
    lower = cast(encoder, torch.bfloat16)
    assert cast(encoder, torch.float32) is encoder
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in lower.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in lower.parameters())
