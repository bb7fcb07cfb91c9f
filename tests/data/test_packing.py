"""Documents to rows: the layout by hand, every piece once an epoch, and an order that only seed and epoch decide."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches import packing, plan
from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.batches.plan import RowPlan, make_plan
from spacy_electra.data.batches.shuffle import order_keys, shuffled
from spacy_electra.data.checksums import write_checksums
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.rng import row_keys
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

PAD, CLS, SEP = 0, 2, 3
FIRST = 5  # number of the first piece of text


def make_store(directory: Path, lengths: Sequence[int], *, shard_pieces: int = 1000) -> Store:
    """Documents of these many pieces; piece number p of the corpus is vocabulary number FIRST + p, so all differ."""
    words = [f"w{number}" for number in range(sum(lengths))]
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    ends = np.cumsum(lengths).tolist()
    texts = [" ".join(words[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    documents = (Document(text=text, source="test.jsonl", line=1) for text in texts)
    build_store(documents, WordPiece.load(directory), directory / "store", shard_pieces=shard_pieces)
    return Store.open(directory / "store")


def ranges_of(lengths: Sequence[int]) -> np.ndarray:
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends], axis=1)


def in_text_order(rows: Rows) -> Rows:
    """The rows sorted by their first piece."""
    order = rows.ids[:, 1].argsort()
    return Rows(rows.ids[order], rows.types[order], rows.segments[order], rows.positions[order], rows.keys[order])


def pieces_of(rows: Rows) -> list[int]:
    """Numbers of all pieces of text, sorted."""
    return sorted((rows.ids[rows.ids >= FIRST] - FIRST).tolist())


def test_rows_are_the_same_when_memory_is_given_back_after_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, [10, 40, 5, 7, 15])
    whole = Packing(store, ranges_of([10, 40, 5, 7, 15]), window=32, seed=0).batch(0, 4)
    monkeypatch.setattr(packing, "_SEGMENTS_HELD", 1)
    again = Packing(store, ranges_of([10, 40, 5, 7, 15]), window=32, seed=0)
    for number in range(4):
        assert torch.equal(again.batch(number, 1).ids[0], whole.ids[number])


LENGTHS = (10, 40, 0, 5, 7, 15)  # 77 pieces; in windows of 32 they make four rows


@pytest.fixture
def packed(tmp_path: Path) -> Packing:
    store = make_store(tmp_path, LENGTHS, shard_pieces=20)
    return Packing(store, ranges_of(LENGTHS), window=32, seed=0)


def test_rows_are_laid_out_as_worked_by_hand(packed: Packing) -> None:
    rows = in_text_order(packed.batch(0, 4))
    text = list(range(FIRST, FIRST + 77))
    assert (
        rows.ids.tolist()
        == [
            [CLS, *text[:10], SEP, CLS, *text[10:28], SEP],
            [CLS, *text[28:50], SEP, *[PAD] * 8],  # 8 tokens are too few to begin a document
            [CLS, *text[50:55], SEP, CLS, *text[55:62], SEP, CLS, *text[62:76], SEP],  # exactly 16 tokens are enough
            [CLS, text[76], SEP, *[PAD] * 29],
        ]
    )
    assert rows.segments.tolist() == [
        [1] * 12 + [2] * 20,
        [1] * 24 + [0] * 8,
        [1] * 7 + [2] * 9 + [3] * 16,
        [1] * 3 + [0] * 29,
    ]
    assert rows.positions.tolist() == [
        [*range(12), *range(20)],
        [*range(24), *[0] * 8],
        [*range(7), *range(9), *range(16)],
        [*range(3), *[0] * 29],
    ]
    assert not rows.types.any()


def test_all_arrays_are_int64(packed: Packing) -> None:
    rows = packed.batch(0, 2)
    assert {rows.ids.dtype, rows.types.dtype, rows.segments.dtype, rows.positions.dtype, rows.keys.dtype} == {
        torch.int64
    }


def test_an_epoch_has_every_piece_once(packed: Packing) -> None:
    assert (packed.rows, packed.epoch_pieces) == (4, 77)
    for epoch in range(3):
        assert pieces_of(packed.batch(4 * epoch, 4)) == list(range(77))


def test_only_the_given_ranges_are_packed(tmp_path: Path) -> None:
    store = make_store(tmp_path, LENGTHS)
    packed = Packing(store, np.array([[0, 10], [55, 62]]), window=32, seed=0)
    assert packed.epoch_pieces == 17
    assert pieces_of(packed.batch(0, packed.rows)) == [*range(10), *range(55, 62)]


def reference_rows(lengths: Sequence[int], window: int) -> list[list[tuple[int, int]]]:
    """Piece by piece: (start, length) of the segments of each row."""
    rows: list[list[tuple[int, int]]] = []
    free = place = 0
    for length in lengths:
        for number in range(length):
            if (number == 0 and free < min(plan.MIN_SEGMENT, window)) or free == 0:
                rows.append([])
                free = window
            if number == 0 or not rows[-1]:
                rows[-1].append((place, 0))
                free -= 2
            start, taken = rows[-1][-1]
            rows[-1][-1] = (start, taken + 1)
            free -= 1
            place += 1
    return rows


def rows_of(made: RowPlan) -> list[list[tuple[int, int]]]:
    first, count = made.segments(np.arange(made.rows))
    segments = list(zip(made.starts.tolist(), made.lengths.tolist(), strict=True))
    return [segments[begin : begin + n] for begin, n in zip(first.tolist(), count.tolist(), strict=True)]


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=40).filter(any),
    window=st.integers(packing.MIN_WINDOW, 48),
)
def test_the_plan_is_that_of_a_packer_that_goes_piece_by_piece(lengths: list[int], window: int) -> None:
    made = make_plan(ranges_of(lengths), window=window, fingerprint="", directory=None)
    assert rows_of(made) == reference_rows(lengths, window)


def test_a_plan_made_in_many_runs_is_the_plan_made_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(0, 60, 100).tolist()
    whole = make_plan(ranges_of(lengths), window=32, fingerprint="", directory=None)
    monkeypatch.setattr(plan, "_RANGES_AT_ONCE", 7)
    assert rows_of(make_plan(ranges_of(lengths), window=32, fingerprint="", directory=None)) == rows_of(whole)


def test_a_plan_is_kept_for_the_same_documents_and_window_only(tmp_path: Path) -> None:
    for window, fingerprint, lengths in [(32, "a", (5, 6)), (16, "a", (5, 6)), (32, "b", (5, 6)), (32, "a", (6, 5))]:
        for _ in range(2):
            kept = make_plan(ranges_of(lengths), window=window, fingerprint=fingerprint, directory=tmp_path)
            assert rows_of(kept) == reference_rows(lengths, window)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_plan_is_read_from_disk_the_second_time(tmp_path: Path) -> None:
    make_plan(ranges_of((5, 6)), window=32, fingerprint="a", directory=tmp_path)
    (kept,) = tmp_path.iterdir()
    np.array([7, 6], dtype="<i4").tofile(kept / "lengths")
    write_checksums(kept / plan.PLAN_CHECKSUMS, ["starts", "lengths", "first"])
    again = make_plan(ranges_of((5, 6)), window=32, fingerprint="a", directory=tmp_path)
    assert again.lengths.tolist() == [7, 6]


@pytest.mark.parametrize("name", ["starts", "lengths", "first", plan.PLAN_CHECKSUMS])
def test_a_plan_with_a_flipped_bit_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    make_plan(ranges_of((5, 40)), window=32, fingerprint="a", directory=tmp_path)
    (kept,) = tmp_path.iterdir()
    content = (kept / name).read_bytes()
    (kept / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    again = make_plan(ranges_of((5, 40)), window=32, fingerprint="a", directory=tmp_path)
    assert rows_of(again) == reference_rows((5, 40), 32)
    assert (kept / name).read_bytes() == content
    assert "is damaged and made again" in caplog.text


def test_a_plan_stays_in_memory_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file, so that no directory can be made here")
    made = make_plan(ranges_of((5, 40)), window=32, fingerprint="", directory=tmp_path / "plans")
    assert rows_of(made) == reference_rows((5, 40), 32)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 1000, 4097])
def test_the_order_is_a_permutation(length: int) -> None:
    for epoch in range(3):
        keys = order_keys(0, epoch=torch.full((length,), epoch))
        assert shuffled(torch.arange(length), length, keys=keys).sort().values.equal(torch.arange(length))


def test_the_order_is_fresh_in_each_epoch_and_for_each_seed() -> None:
    orders = set()
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        keys = order_keys(seed, epoch=torch.full((100,), epoch))
        orders.add(tuple(shuffled(torch.arange(100), 100, keys=keys).tolist()))
    assert len(orders) == 4


def test_a_place_has_the_same_number_whatever_places_are_asked_for_with_it() -> None:
    keys = order_keys(0, epoch=torch.zeros(50, dtype=torch.int64))
    together = shuffled(torch.arange(50), 50, keys=keys)
    alone = [int(shuffled(torch.tensor([place]), 50, keys=keys[:1])) for place in range(50)]
    assert together.tolist() == alone


def test_all_orders_of_four_come_up_equally_often() -> None:
    seeds = 2400
    counts: dict[tuple[int, ...], int] = {}
    keys = torch.stack([order_keys(seed, epoch=torch.zeros(4, dtype=torch.int64)) for seed in range(seeds)])
    places = torch.arange(4).repeat(seeds)
    for order in shuffled(places, 4, keys=keys.flatten()).view(seeds, 4).tolist():
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert len(counts) == 24
    assert chi_square < 50  # 23 degrees of freedom: more with probability 1e-3


@pytest.mark.parametrize("length", [8, 16])  # an odd and an even number of bits
def test_a_place_gets_every_number_equally_often_over_the_seeds(length: int) -> None:
    keys = torch.cat([order_keys(seed, epoch=torch.zeros(1, dtype=torch.int64)) for seed in range(100 * length)])
    for place in (0, length - 1):
        counts = shuffled(torch.full_like(keys, place), length, keys=keys).bincount(minlength=length)
        chi_square = float(((counts - 100) ** 2 / 100).sum())
        assert chi_square < 38  # at most 15 degrees of freedom: more with probability 1e-3


def test_neighbours_in_the_text_are_not_neighbours_in_the_order() -> None:
    order = shuffled(torch.arange(4096), 4096, keys=order_keys(0, epoch=torch.zeros(4096, dtype=torch.int64)))
    assert int(((order[1:] - order[:-1]).abs() == 1).sum()) < 10  # 2 expected
    assert abs(float(torch.corrcoef(torch.stack([order.double(), torch.arange(4096.0).double()]))[0, 1])) < 0.06


def test_each_epoch_visits_the_same_rows_in_another_order(tmp_path: Path) -> None:
    packed = Packing(make_store(tmp_path, [30] * 40), ranges_of([30] * 40), window=32, seed=0)
    first, second = packed.batch(0, 40), packed.batch(40, 40)
    assert not torch.equal(first.ids, second.ids)
    assert torch.equal(in_text_order(first).ids, in_text_order(second).ids)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_endless_run_is_the_same_in_any_batches(packed: Packing, size: int) -> None:
    whole = packed.batch(0, 15)  # nearly four epochs
    parts = [packed.batch(first, size) for first in range(0, 15, size)]
    for name in ("ids", "types", "segments", "positions", "keys"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


def test_keys_come_from_seed_epoch_and_the_row_in_the_plan(packed: Packing) -> None:
    number = torch.arange(4)
    for epoch in (0, 1):
        rows = in_text_order(packed.batch(4 * epoch, 4))
        assert torch.equal(rows.keys, row_keys(0, epoch=torch.full((4,), epoch), row=number))


def test_shards_do_not_show(tmp_path: Path) -> None:
    rows = []
    for shard_pieces in (7, 1000):
        store = make_store(tmp_path / str(shard_pieces), LENGTHS, shard_pieces=shard_pieces)
        rows.append(Packing(store, ranges_of(LENGTHS), window=16, seed=3).batch(0, 20))
    assert torch.equal(rows[0].ids, rows[1].ids)
    assert torch.equal(rows[0].keys, rows[1].keys)


@pytest.mark.parametrize(("first_row", "count"), [(-1, 2), (0, 0)])
def test_a_batch_that_is_none_is_refused(packed: Packing, first_row: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"first_row={first_row}, count={count}"):
        packed.batch(first_row, count)


@pytest.mark.parametrize(
    ("ranges", "window", "message"),
    [
        ([[0, 77]], 7, "window must be at least 8"),
        ([[0, 78]], 32, "within the 77 pieces"),
        ([[-1, 5]], 32, "within the 77 pieces"),
        ([[0, 9], [9, 3]], 32, "start before stop"),
        ([[3, 3]], 32, "nothing to pack"),
        ([0, 77], 32, "shape"),
        ([[0.0, 77.0]], 32, "float64"),
    ],
)
def test_what_cannot_be_packed_is_refused(tmp_path: Path, ranges: list[object], window: int, message: str) -> None:
    store = make_store(tmp_path, LENGTHS)
    with pytest.raises(ValueError, match=message):
        Packing(store, np.array(ranges), window=window, seed=0)


@pytest.mark.parametrize(("documents", "held_out"), [(2, 1), (19, 1), (20, 2), (100, 10), (1000, 10), (3000, 30)])
def test_one_document_in_a_hundred_is_held_out_ten_at_least_but_no_more_than_one_in_ten(
    tmp_path: Path, documents: int, held_out: int
) -> None:
    store = make_store(tmp_path, [2] * documents)
    split = split_documents(store, seed=0)
    assert (len(split.train), len(split.dev)) == (documents - held_out, held_out)
    both = np.concatenate([split.train, split.dev])
    assert both[both[:, 0].argsort()].tolist() == ranges_of([2] * documents).tolist()


def test_the_split_is_decided_by_the_seed(tmp_path: Path) -> None:
    store = make_store(tmp_path, [3] * 200)
    first, again, other = (split_documents(store, seed=seed).dev.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_documents_without_pieces_are_in_neither_part(tmp_path: Path) -> None:
    store = make_store(tmp_path, [0, 4, 0, 5, 0])
    split = split_documents(store, seed=0)
    assert sorted([*split.train.tolist(), *split.dev.tolist()]) == [[0, 4], [4, 9]]


def test_one_document_is_cut_into_stretches_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path, [0, 105])
    with caplog.at_level(logging.WARNING):
        split = split_documents(store, seed=0)
    assert "holds one document" in caplog.text
    assert (split.dev[:, 1] - split.dev[:, 0]).tolist() == [10]
    both = np.concatenate([split.train, split.dev])
    assert sorted(place for start, stop in both.tolist() for place in range(start, stop)) == list(range(105))


@pytest.mark.parametrize("lengths", [[30, 9000], [9000, 40, 50, 40], [40] * 30 + [20_000] + [40] * 30])
@pytest.mark.parametrize("seed", range(5))
def test_a_long_document_among_few_does_not_become_the_dev_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lengths: list[int], seed: int
) -> None:
    store = make_store(tmp_path, lengths)
    with caplog.at_level(logging.WARNING):
        split = split_documents(store, seed=seed)
    held_out = int((split.dev[:, 1] - split.dev[:, 0]).sum())
    assert 0 < held_out <= sum(lengths) / 4
    both = np.concatenate([split.train, split.dev])
    both = both[both[:, 0].argsort()]
    assert [0, *both[:, 1].tolist()] == [*both[:, 0].tolist(), sum(lengths)]
    assert ("few documents that are long" in caplog.text) == (len(both) > len(lengths))


def test_a_single_piece_cannot_be_split(tmp_path: Path) -> None:
    store = make_store(tmp_path, [1])
    with pytest.raises(ValueError, match="1 pieces in all"):
        split_documents(store, seed=0)
