"""Rows of several stores in turn: shares by weight, each store in its own order, and the same rows in any batches."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

WINDOW = 16
PIECES = (14 * 7, 14 * 3, 14 * 5)  # of each store: so many full rows
ROWS = tuple(pieces // 14 for pieces in PIECES)
KINDS = len(PIECES)


@pytest.fixture(scope="module")
def packings(tmp_path_factory: pytest.TempPathFactory) -> list[Packing]:
    """Of three stores; each piece occurs once, in one of them."""
    folder = tmp_path_factory.mktemp("stores")
    words = [f"w{number}" for number in range(sum(PIECES))]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    tokenizer, ends, made = WordPiece.load(folder), np.cumsum(PIECES).tolist(), []
    for number, (size, end) in enumerate(zip(PIECES, ends, strict=True)):
        text = " ".join(words[end - size : end])
        build_store([Document(text=text, source="test.jsonl", line=1)], tokenizer, folder / str(number))
        store = Store.open(folder / str(number))
        made.append(Packing(store, np.array([[0, size]]), window=WINDOW, seed=0))
    return made


def sources_of(mixture: Mixture, count: int) -> list[int]:
    return mixture.places(np.arange(count))[0].tolist()


def test_a_store_of_half_the_weight_gives_every_third_row(packings: list[Packing]) -> None:
    mixture = Mixture(packings[:2], weights=[1.0, 0.5])
    source, own = mixture.places(np.arange(9))
    assert source.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1]
    assert own.tolist() == [0, 1, 0, 2, 3, 1, 4, 5, 2]


def test_three_stores_take_turns_as_worked_by_hand(packings: list[Packing]) -> None:
    mixture = Mixture(packings, weights=[1.0, 1.0, 0.5])  # the first has 2 rows of 5; of the other 3, the second has 2
    source, own = mixture.places(np.arange(10))
    assert source.tolist() == [0, 1, 0, 1, 2, 0, 1, 0, 1, 2]
    assert own.tolist() == [0, 0, 1, 1, 0, 2, 2, 3, 3, 1]


@settings(max_examples=60, deadline=None)
@given(
    weight=st.floats(min_value=1e-6, max_value=100),
    first=st.integers(min_value=0, max_value=10**12),
    count=st.integers(min_value=1, max_value=300),
)
def test_of_any_rows_in_succession_each_of_two_stores_has_its_share_to_within_one(
    packings: list[Packing], weight: float, first: int, count: int
) -> None:
    mixture = Mixture(packings[:2], weights=[1.0, weight])
    source, _ = mixture.places(np.arange(first, first + count))
    assert abs(np.count_nonzero(source == 0) - mixture.shares[0] * count) < 1 + 1e-6
    assert mixture.shares[1] == pytest.approx(weight / (1 + weight), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(min_value=0.01, max_value=100), min_size=KINDS, max_size=KINDS),
    first=st.integers(0, 10**9),
)
def test_of_three_stores_the_main_one_has_its_share_to_within_one_row_and_the_others_to_within_two(
    packings: list[Packing], weights: list[float], first: int
) -> None:
    mixture = Mixture(packings, weights=weights)
    source, _ = mixture.places(np.arange(first, first + 200))
    for number, most in enumerate((1, 2, 2)):
        taken = np.cumsum(source == number)
        assert np.abs(taken - mixture.shares[number] * np.arange(1, 201)).max() < most + 1e-6


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.floats(min_value=0.01, max_value=100), min_size=KINDS, max_size=KINDS))
def test_the_own_rows_of_each_store_are_counted_without_a_gap(packings: list[Packing], weights: list[float]) -> None:
    source, own = Mixture(packings, weights=weights).places(np.arange(500))
    for number in range(KINDS):
        assert own[source == number].tolist() == list(range(np.count_nonzero(source == number)))


@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.25), (1.0, 3.0, 0.7)])
def test_each_store_is_read_in_the_order_of_a_run_of_its_own(packings: list[Packing], weights: Sequence[float]) -> None:
    mixture = Mixture(packings, weights=weights)
    rows, source = mixture.batch(0, 60), np.array(sources_of(mixture, 60))
    for number, packing in enumerate(packings):
        here = np.flatnonzero(source == number)
        alone = packing.batch(0, len(here))
        assert len(here) > packing.rows or number == 2  # more than an epoch
        for name in ("ids", "types", "segments", "positions"):
            assert torch.equal(getattr(rows, name)[here], getattr(alone, name))


@pytest.mark.parametrize("size", [1, 4, 7])
def test_the_endless_run_is_the_same_in_any_batches(packings: list[Packing], size: int) -> None:
    mixture = Mixture(packings, weights=[1.0, 0.5, 0.25])
    whole = mixture.batch(5, 28)
    parts = [mixture.batch(5 + first, size) for first in range(0, 28, size)]
    for name in ("ids", "types", "segments", "positions", "keys"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_no_two_rows_have_the_same_key_and_none_has_one_of_the_dev_set(packings: list[Packing]) -> None:
    keys = torch.cat([Mixture(packings, weights=[1.0, 1.0, 1.0]).batch(0, 300).keys, packings[0].batch(0, 7).keys])
    assert len(keys.unique()) == 307


def test_its_rows_are_those_in_which_the_main_store_is_read_once(packings: list[Packing]) -> None:
    mixture = Mixture(packings[:2], weights=[1.0, 0.5])
    assert mixture.rows == 11  # 7 of 10.5
    assert sources_of(mixture, 11).count(0) >= 7 > sources_of(mixture, 9).count(0)
    assert mixture.epoch_pieces == 11 * 14


def test_a_row_is_one_stretch_where_those_of_all_stores_are(packings: list[Packing]) -> None:
    short = Packing(packings[1]._store, np.array([[0, 20]]), window=WINDOW, seed=0)  # 14 pieces, and 6
    assert Mixture(packings, weights=[1.0, 1.0, 1.0]).batch(0, 6).is_one_segment
    mixture = Mixture([packings[0], short], weights=[1.0, 1.0])
    assert not mixture.batch(0, 8).is_one_segment
    assert mixture.batch(0, 1).is_one_segment


@pytest.mark.parametrize(("first_row", "count"), [(-1, 4), (0, 0)])
def test_a_batch_that_is_none_is_refused(packings: list[Packing], first_row: int, count: int) -> None:
    with pytest.raises(ValueError, match="a batch begins at row 0 or later and has a row"):
        Mixture(packings, weights=[1.0, 1.0, 1.0]).batch(first_row, count)
