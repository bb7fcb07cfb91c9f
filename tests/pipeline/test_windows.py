import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.data.rows import Special
from spacy_electra.pipeline.windows import batch_windows, check_windows, cut_windows, lay_out, room_and_stride

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)


def test_a_document_that_fits_is_one_window():
    windows = cut_windows(np.array([10, 4]), room=10, stride=7)
    assert windows.start.tolist() == [0, 10]
    assert windows.length.tolist() == [10, 4]
    assert windows.kept.tolist() == [0, 10, 14]


def test_windows_of_a_long_document_keep_their_middles():
    """20 pieces in windows of 10, 8 apart at most: three, at 0, 5 and 10; each overlap of 5 is shared at its middle."""
    windows = cut_windows(np.array([20]), room=10, stride=8)
    assert windows.start.tolist() == [0, 5, 10]
    assert windows.length.tolist() == [10, 10, 10]
    assert windows.kept.tolist() == [0, 8, 13, 20]


@given(
    counts=st.lists(st.integers(0, 60), max_size=6),
    room=st.integers(1, 12),
    stride=st.integers(1, 12),
    most=st.integers(1, 80),
)
@settings(max_examples=150, deadline=None)
def test_every_piece_is_found_where_its_window_put_it(counts, room, stride, most):
    counts = np.array(counts, dtype=np.int64)
    ids = np.arange(5, 5 + counts.sum())  # every piece another number
    layout = lay_out(ids, counts, SPECIAL, room=room, stride=min(stride, room), max_slots=most)
    slots = np.concatenate([np.zeros(0, dtype=np.int64), *(batch.ids.ravel() for batch in layout.batches)])
    assert slots[layout.source].tolist() == ids.tolist()


def test_windows_never_cross_documents():
    layout = lay_out(np.arange(10, 22), np.array([5, 7]), SPECIAL, room=8, stride=8, max_slots=100)
    rows = [row[:n].tolist() for batch in layout.batches for row, n in zip(batch.ids, batch.lengths, strict=True)]
    assert sorted(rows) == [[2, 10, 11, 12, 13, 14, 3], [2, 15, 16, 17, 18, 19, 20, 21, 3]]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), most=st.integers(8, 200))
def test_batches_stay_within_their_slots(lengths, most):
    length = np.array(lengths)
    batches = batch_windows(length, max_slots=most)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for members in batches:
        assert len(members) == 1 or len(members) * (length[members].max() + 2) <= most


def test_sentences_in_one_call_waste_little():
    """Lengths as in English sentences: at most 15 % of the slots are neither piece nor needed by [CLS] and [SEP]."""
    length = np.random.default_rng(0).integers(3, 60, size=256)
    batches = batch_windows(length, max_slots=4096)
    slots = sum(len(members) * (length[members].max() + 2) for members in batches)
    assert slots <= 1.15 * (length + 2).sum()


def test_no_window_means_all_positions_and_little_overlap():
    assert room_and_stride(None, None, positions=130) == (128, 112)
    assert room_and_stride(34, 20, positions=130) == (32, 20)


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (2, None, "window must be above 2, but got window=2"),
        (32, 31, "stride must not exceed window - 2, but got stride=31 and window=32.*Use stride=30"),
        (None, 0, "stride must be at least 1 piece, but got stride=0"),
    ],
)
def test_impossible_windows_are_refused(window, stride, message):
    with pytest.raises(ValueError, match=message):
        check_windows(window, stride)


def test_a_window_beyond_the_positions_is_refused():
    with pytest.raises(ValueError, match="must not exceed the model's 40 positions, but got window=41"):
        room_and_stride(41, None, positions=40)
