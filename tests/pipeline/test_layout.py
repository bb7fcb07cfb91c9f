import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.data.rows import Special
from spacy_electra.pipeline.layout import Group, Limits, attention_width, group_windows, lay_out, rounded
from spacy_electra.pipeline.windows import room_and_stride

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)


def windows_of(layout):
    """Every window, cut out of the flat axis."""
    begin = 0
    for batch in layout.batches:
        place = begin
        for length in np.concatenate([group.lengths for group in batch.groups]).tolist():
            yield layout.ids[place : place + length]
            place += length
        begin += batch.slots
    assert begin == len(layout.ids)


@given(
    counts=st.lists(st.integers(0, 60), max_size=6),
    room=st.integers(1, 12),
    stride=st.integers(1, 12),
    most=st.integers(1, 80),
    cost=st.integers(0, 40),
)
@settings(max_examples=150, deadline=None)
def test_every_piece_is_found_where_its_window_put_it(counts, room, stride, most, cost):
    counts = np.array(counts, dtype=np.int64)
    ids = np.arange(5, 5 + counts.sum())  # every piece another number
    limits = Limits(max_slots=most, group_cost=cost)
    layout = lay_out(ids, counts, SPECIAL, room=room, stride=min(stride, room), limits=limits)
    assert layout.ids[layout.source].tolist() == ids.tolist()


@given(counts=st.lists(st.integers(0, 60), max_size=6), cost=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_positions_count_from_the_start_of_every_window(counts, cost):
    counts = np.array(counts, dtype=np.int64)
    limits = Limits(max_slots=100, group_cost=cost)
    layout = lay_out(np.arange(5, 5 + counts.sum()), counts, SPECIAL, room=10, stride=8, limits=limits)
    begin = np.flatnonzero(layout.ids == SPECIAL.cls)
    for start in begin:
        length = int(np.flatnonzero(layout.ids[start:] == SPECIAL.sep)[0]) + 1
        assert layout.positions[start : start + length].tolist() == list(range(length))


def test_windows_never_cross_documents():
    limits = Limits(max_slots=100, group_cost=16)
    layout = lay_out(np.arange(10, 22), np.array([5, 7]), SPECIAL, room=8, stride=8, limits=limits)
    assert sorted(window.tolist() for window in windows_of(layout)) == [
        [2, 10, 11, 12, 13, 14, 3],
        [2, 15, 16, 17, 18, 19, 20, 21, 3],
    ]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), most=st.integers(8, 200), cost=st.integers(0, 99))
def test_batches_stay_within_their_slots(lengths, most, cost):
    length = np.array(lengths)
    batches = group_windows(length, Limits(max_slots=most, group_cost=cost))
    assert sorted(np.concatenate([group for batch in batches for group in batch]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        slots = sum(len(group) * attention_width(int(length[group].max()) + 2) for group in batch)
        assert sum(map(len, batch)) == 1 or slots <= most


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), cost=st.integers(0, 99))
def test_no_group_is_padded_more_than_another_would_cost(lengths, cost):
    length = np.array(lengths)
    for batch in group_windows(length, Limits(max_slots=500, group_cost=cost)):
        for group in batch:
            width = [attention_width(int(slots)) for slots in length[group] + 2]
            assert sum(max(width) - own for own in width) <= cost


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=30), most=st.integers(8, 2000))
def test_a_window_attends_in_one_width_whatever_else_is_in_its_batch(lengths, most):
    """The order in which torch adds up follows from the width."""
    counts = np.array(lengths)
    limits = Limits(max_slots=most, group_cost=0)
    layout = lay_out(np.arange(counts.sum()), counts, SPECIAL, room=298, stride=298, limits=limits)
    for group in (group for batch in layout.batches for group in batch.groups):
        assert {attention_width(int(slots)) for slots in group.lengths} == {group.width}


def test_attention_pads_by_an_eighth_at_most_above_64_slots():
    widths = np.array([attention_width(slots) for slots in range(1, 1025)])
    assert (widths[64:] - np.arange(65, 1025) <= np.arange(65, 1025) / 8).all()
    assert (np.diff(widths) >= 0).all()
    assert len(set(widths.tolist())) == 8 + 4 * 8


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=9))
def test_a_group_knows_where_its_slots_stand_among_padding(lengths):
    group = Group(width=max(lengths), lengths=np.array(lengths))
    assert group.padded[group.filled].tolist() == list(range(group.slots))
    window = np.repeat(np.arange(len(lengths)), lengths)[group.padded]
    assert window.tolist() == np.repeat(np.arange(len(lengths)), group.width).tolist()
    assert group.is_even == (min(lengths) == max(lengths))


def test_sentences_in_one_call_need_no_padding():
    """A round number of slots is all that comes on top of pieces, [CLS] and [SEP]: a 16th at most."""
    length = np.random.default_rng(0).integers(3, 60, size=256)
    limits = Limits(max_slots=4096, group_cost=16)
    layout = lay_out(np.arange(5, 5 + length.sum()), length, SPECIAL, room=126, stride=110, limits=limits)
    assert len(layout.ids) <= (1 + 1 / 16) * (length + 2).sum()


def test_long_documents_cost_little_more_than_their_pieces():
    """Paragraphs of 60 to 400 pieces in windows of 128: at most 15 % of overlap, [CLS], [SEP] and padding."""
    counts = np.random.default_rng(0).integers(60, 400, size=64)
    ids, limits = np.arange(5, 5 + counts.sum()), Limits(max_slots=4096, group_cost=16)
    room, stride = room_and_stride(None, None, positions=128)
    layout = lay_out(ids, counts, SPECIAL, room=room, stride=stride, limits=limits)
    assert len(layout.ids) <= 1.15 * counts.sum()


def test_batches_have_few_sizes():
    """16 to the octave, and 8 to 128 in steps of 8."""
    sizes = {rounded(slots, most=4096) for slots in range(1, 4097)}
    assert len(sizes) == 16 + 5 * 16


@given(slots=st.integers(1, 9000), most=st.integers(1, 9000))
def test_a_rounded_batch_is_above_its_limit_only_where_it_was(slots, most):
    size = rounded(slots, most=most)
    assert slots <= size <= max(slots, most)
