"""Micro-batches and length buckets: every token is in one of them, and little is padded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.model.inference.buckets import BucketLimits, LengthBucket, attention_width, divide, plan, rounded
from spacy_electra.model.inference.packed import PackedBatch

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def batch_of(lengths: list[int]) -> PackedBatch:
    """Every token another number, and all vectors wanted from the last to the first."""
    cu_seqlens = np.cumsum([0, *lengths])
    ids = np.arange(100, 100 + cu_seqlens[-1])
    return PackedBatch(ids, positions=ids - 100, cu_seqlens=cu_seqlens, output_index=(ids - 100)[::-1].copy())


def longest_first(lengths: list[int]) -> np.ndarray:
    return np.array(sorted(lengths, reverse=True), dtype=np.int64)


@given(lengths=st.lists(st.integers(1, 30), max_size=30), most=st.integers(8, 200), cost=st.integers(0, 99))
@settings(deadline=None)
def test_every_token_is_found_where_the_plan_put_it(lengths, most, cost):
    batch, limits = batch_of(lengths), BucketLimits(max_batch_tokens=most, bucket_cost=cost)
    planned = plan(batch, limits)
    assert batch.ids[planned.source][planned.output_index].tolist() == batch.ids[::-1].tolist()
    assert len(planned.source) == sum(part.size for part in planned.micro_batches)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30), most=st.integers(8, 200), cost=st.integers(0, 99))
@settings(deadline=None)
def test_sequences_stand_whole_in_their_buckets(lengths, most, cost):
    batch, limits = batch_of(lengths), BucketLimits(max_batch_tokens=most, bucket_cost=cost)
    planned, place = plan(batch, limits), 0
    found = []
    for part in planned.micro_batches:
        own = place
        for length in np.concatenate([bucket.lengths for bucket in part.buckets]).tolist():
            found.append((int(planned.source[own]), length))
            assert np.diff(planned.source[own : own + length]).tolist() == [1] * (length - 1)
            own += length
        place += part.size
    assert sorted(found) == list(zip(batch.cu_seqlens[:-1].tolist(), lengths, strict=True))


@given(lengths=LENGTHS, most=st.integers(8, 200), cost=st.integers(0, 99))
@settings(deadline=None)
def test_micro_batches_stay_within_their_limit(lengths, most, cost):
    parts = divide(longest_first(lengths), BucketLimits(max_batch_tokens=most, bucket_cost=cost))
    found = np.concatenate([bucket.lengths for part in parts for bucket in part.buckets])
    assert found.tolist() == longest_first(lengths).tolist()
    for part in parts:
        padded = sum(len(bucket.lengths) * bucket.width for bucket in part.buckets)
        assert sum(len(bucket.lengths) for bucket in part.buckets) == 1 or padded <= most


@given(lengths=LENGTHS, cost=st.integers(0, 99))
@settings(deadline=None)
def test_no_bucket_is_padded_more_than_another_would_cost(lengths, cost):
    for part in divide(longest_first(lengths), BucketLimits(max_batch_tokens=500, bucket_cost=cost)):
        for bucket in part.buckets:
            widths = [attention_width(length) for length in bucket.lengths.tolist()]
            assert bucket.width == max(widths)
            assert sum(bucket.width - width for width in widths) <= cost


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=30), most=st.integers(8, 2000))
@settings(deadline=None)
def test_without_a_cost_a_sequence_attends_in_one_width_whatever_else_is_in_its_batch(lengths, most):
    """The order in which torch adds up follows from the width."""
    for part in divide(longest_first(lengths), BucketLimits(max_batch_tokens=most, bucket_cost=0)):
        for bucket in part.buckets:
            assert {attention_width(length) for length in bucket.lengths.tolist()} == {bucket.width}


@pytest.mark.parametrize(
    ("most", "cost", "expected"),
    [
        (100, 0, [([16, 8], 40)]),
        (100, 8, [([16], 40)]),  # the shortest is padded by 8
        (16, 0, [([16], 16), ([16], 16), ([8], 8)]),
    ],
)
def test_micro_batches_of_sixteen_sixteen_and_eight_tokens(most, cost, expected):
    parts = divide(longest_first([16, 16, 8]), BucketLimits(max_batch_tokens=most, bucket_cost=cost))
    assert [([bucket.width for bucket in part.buckets], part.size) for part in parts] == expected


def test_attention_pads_by_an_eighth_at_most_above_64_tokens():
    widths = np.array([attention_width(length) for length in range(1, 1025)])
    assert (widths[64:] - np.arange(65, 1025) <= np.arange(65, 1025) / 8).all()
    assert (np.diff(widths) >= 0).all()
    assert len(set(widths.tolist())) == 8 + 4 * 8


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=9))
def test_a_bucket_knows_where_its_tokens_stand_among_padding(lengths):
    bucket = LengthBucket(width=max(lengths), lengths=np.array(lengths))
    assert bucket.padded[bucket.filled].tolist() == list(range(bucket.tokens))
    sequence = np.repeat(np.arange(len(lengths)), lengths)[bucket.padded]
    assert sequence.tolist() == np.repeat(np.arange(len(lengths)), bucket.width).tolist()
    assert bucket.is_even == (min(lengths) == max(lengths))


def test_sentences_in_one_call_need_little_padding():
    """A round number of tokens is all that is computed beside them: a 16th at most."""
    lengths = np.random.default_rng(0).integers(5, 62, size=256)
    parts = divide(longest_first(lengths.tolist()), BucketLimits(max_batch_tokens=4096, bucket_cost=16))
    assert sum(part.size for part in parts) <= (1 + 1 / 16) * lengths.sum()


def test_micro_batches_have_few_sizes():
    """16 to the octave, and 8 to 128 in steps of 8."""
    sizes = {rounded(tokens, most=4096) for tokens in range(1, 4097)}
    assert len(sizes) == 16 + 5 * 16


@given(tokens=st.integers(1, 9000), most=st.integers(1, 9000))
def test_a_rounded_micro_batch_is_above_its_limit_only_where_it_was(tokens, most):
    size = rounded(tokens, most=most)
    assert tokens <= size <= max(tokens, most)
