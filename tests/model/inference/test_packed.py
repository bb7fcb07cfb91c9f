"""Batches whose arrays do not fit each other are refused before any backend reads them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spacy_electra.model.inference.packed import PackedBatch


def batch() -> PackedBatch:
    """Sequences of 3 and 2 tokens."""
    return PackedBatch(
        ids=np.array([5, 6, 7, 8, 9]),
        positions=np.array([0, 1, 2, 0, 1]),
        cu_seqlens=np.array([0, 3, 5]),
        output_index=np.array([4, 1]),
    )


def test_lengths_and_rows_follow_from_the_arrays() -> None:
    assert batch().tokens == 5
    assert batch().lengths.tolist() == [3, 2]
    assert batch().output_rows().tolist() == [-1, 1, -1, -1, 0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cu_seqlens": np.array([0, 3, 6])}, "must rise from 0 to the 5 tokens"),
        ({"cu_seqlens": np.array([1, 3, 5])}, "must rise from 0"),
        ({"cu_seqlens": np.array([0, 3, 3, 5])}, "must rise from 0"),
        ({"cu_seqlens": np.array([0, 7, 5])}, "must rise from 0"),
        ({"cu_seqlens": np.array([0])}, "must rise from 0"),
        ({"cu_seqlens": np.zeros(0, dtype=np.int64)}, "must rise from 0"),
        ({"output_index": np.array([0, 5])}, "tokens 0 to 5 of 5"),
        ({"output_index": np.array([-1, 2])}, "tokens -1 to 2 of 5"),
        ({"output_index": np.array([2, 2])}, "names a token twice"),
        ({"positions": np.arange(3)}, "3 positions for 5 ids"),
        ({"ids": np.zeros(5, dtype=np.int32)}, "ids must be a contiguous axis of int64, but is int32"),
        ({"ids": np.zeros(10, dtype=np.int64)[::2]}, "ids must be a contiguous axis of int64"),
        ({"ids": np.zeros((5, 1), dtype=np.int64)}, "ids must be a contiguous axis of int64"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(batch(), **changed)
