import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_electra.pipeline.windows import check_windows, cut_windows, room_and_stride


def test_a_document_that_fits_is_one_window():
    windows = cut_windows(np.array([10, 4]), room=10, stride=7)
    assert windows.start.tolist() == [0, 10]
    assert windows.length.tolist() == [10, 4]
    assert windows.kept.tolist() == [0, 10, 14]


def test_windows_of_a_long_document_keep_their_middles():
    """20 pieces in windows of 10, 8 apart at most: three, of 8 pieces, which share 2; each keeps one of those."""
    windows = cut_windows(np.array([20]), room=10, stride=8)
    assert windows.start.tolist() == [0, 6, 12]
    assert windows.length.tolist() == [8, 8, 8]
    assert windows.kept.tolist() == [0, 7, 13, 20]


@given(counts=st.lists(st.integers(0, 90), max_size=5), room=st.integers(1, 12), stride=st.integers(1, 12))
def test_windows_are_as_few_and_as_short_as_they_can_be(counts, room, stride):
    """Neighbours share room - stride pieces, lengths of a document differ by one piece at most."""
    stride = min(stride, room)
    windows = cut_windows(np.array(counts, dtype=np.int64), room=room, stride=stride)
    begin = window = 0
    for count in filter(None, counts):
        number = 1 + math.ceil(max(0, count - room) / stride)
        mine = slice(window, window + number)
        start, length = windows.start[mine], windows.length[mine]
        assert (start[0], start[-1] + length[-1]) == (begin, begin + count)
        assert (start[:-1] + length[:-1] - start[1:] == room - stride).all()
        assert length.max() <= room
        assert length.max() - length.min() <= 1
        begin, window = begin + count, window + number
    assert window == len(windows.start)


def test_every_piece_is_kept_by_a_window_that_has_it():
    windows = cut_windows(np.array([100, 31, 7]), room=10, stride=7)
    assert (windows.start <= windows.kept[:-1]).all()
    assert (windows.kept[1:] <= windows.start + windows.length).all()
    assert (np.diff(windows.kept) > 0).all()


def test_no_window_means_all_positions_and_little_overlap():
    assert room_and_stride(None, None, positions=128) == (126, 112)
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
