import numpy as np
import pytest

from spacy_electra.pipeline.windows import check_windows, cut_windows, room_and_stride


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
