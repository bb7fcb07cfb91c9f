"""Windows of documents side by side: every piece is found again, and little is computed twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.data.batch import Special
from spacy_electra.pipeline.layout import pack_windows
from spacy_electra.pipeline.windows import room_and_stride

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)


def packed(counts, *, room, stride):
    """Every piece another number."""
    counts = np.array(counts, dtype=np.int64)
    return pack_windows(np.arange(5, 5 + counts.sum()), counts, SPECIAL, room=room, stride=stride)


def sequences_of(batch):
    return np.split(batch.ids, batch.cu_seqlens[1:-1]) if len(batch.lengths) else []


@given(counts=st.lists(st.integers(0, 60), max_size=6), room=st.integers(1, 12), stride=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_every_piece_is_found_where_its_window_put_it(counts, room, stride):
    batch = packed(counts, room=room, stride=min(stride, room))
    assert batch.ids[batch.output_index].tolist() == list(range(5, 5 + sum(counts)))


@given(counts=st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_window_stands_between_cls_and_sep_and_positions_count_from_its_start(counts):
    batch = packed(counts, room=10, stride=8)
    for ids, positions in zip(sequences_of(batch), np.split(batch.positions, batch.cu_seqlens[1:-1]), strict=False):
        assert (ids[0], ids[-1]) == (SPECIAL.cls, SPECIAL.sep)
        assert not {SPECIAL.cls, SPECIAL.sep} & set(ids[1:-1].tolist())
        assert positions.tolist() == list(range(len(ids)))


def test_windows_never_cross_documents_and_the_longest_comes_first():
    batch = packed([5, 7], room=8, stride=8)
    assert [sequence.tolist() for sequence in sequences_of(batch)] == [
        [2, 10, 11, 12, 13, 14, 15, 16, 3],
        [2, 5, 6, 7, 8, 9, 3],
    ]


@pytest.mark.parametrize("counts", [[], [0], [0, 0]])
def test_documents_without_pieces_have_no_windows(counts):
    batch = packed(counts, room=8, stride=8)
    assert (batch.tokens, len(batch.output_index), batch.cu_seqlens.tolist()) == (0, 0, [0])


def test_long_documents_cost_little_more_than_their_pieces():
    """Paragraphs of 60 to 400 pieces in windows of 128: at most 14 % of overlap, [CLS] and [SEP]."""
    counts = np.random.default_rng(0).integers(60, 400, size=64)
    room, stride = room_and_stride(None, None, positions=128)
    assert packed(counts, room=room, stride=stride).tokens <= 1.14 * counts.sum()
