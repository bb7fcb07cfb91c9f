"""Which pieces are hidden: the rules of the paper's section 3.1, counted on rows made by hand."""

import pytest
import torch
from torch import Tensor

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import Masked, chosen_per_row, mask_rows, maskable
from spacy_electra.data.rng import row_keys

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
RATE, KEEP_RATE = 0.15, 0.15


def make_rows(count: int, width: int, *, candidates: int, epoch: int = 0, first: int = 0) -> Rows:
    """Rows `[CLS] pieces [SEP] padding`; piece p of the text has number 10 + p."""
    ids = torch.full((count, width), SPECIAL.pad)
    ids[:, 0] = SPECIAL.cls
    ids[:, 1 : candidates + 1] = torch.arange(10, 10 + candidates)
    ids[:, candidates + 1] = SPECIAL.sep
    place = torch.arange(width).expand(count, width)
    is_real = place < candidates + 2
    row = torch.arange(first, first + count)
    return Rows(
        ids=ids,
        types=torch.zeros_like(ids),
        segments=is_real.long(),
        positions=torch.where(is_real, place, 0),
        keys=row_keys(0, epoch=torch.full_like(row, epoch), row=row),
    )


def hide(rows: Rows, *, rate: float = RATE, unmasked_fraction: float = KEEP_RATE) -> Masked:
    return mask_rows(rows, SPECIAL, rate=rate, unmasked_fraction=unmasked_fraction)


def chosen(masked: Masked) -> list[list[int]]:
    """Per row the positions with weight 1."""
    pairs = zip(masked.positions.index.tolist(), masked.positions.weight.tolist(), strict=True)
    return [[place for place, weight in zip(*row, strict=True) if weight] for row in pairs]


@pytest.mark.parametrize(
    ("width", "rate", "expected"), [(128, 0.15, 19), (512, 0.15, 77), (512, 0.25, 128), (2, 0.15, 1)]
)
def test_a_full_row_has_the_rounded_share(width: int, rate: float, expected: int) -> None:
    assert chosen_per_row(width, rate) == expected


@pytest.mark.parametrize(("candidates", "expected"), [(126, 19), (100, 15), (10, 2), (9, 1), (1, 1), (0, 0)])
def test_fifteen_percent_of_the_candidates_are_chosen(candidates: int, expected: int) -> None:
    masked = hide(make_rows(3, 128, candidates=candidates))
    assert masked.positions.index.shape == (3, 19)
    assert masked.positions.weight.sum(dim=1).tolist() == [expected] * 3


def test_chosen_positions_are_distinct_and_hold_text() -> None:
    for places in chosen(hide(make_rows(200, 32, candidates=20))):
        assert len(set(places)) == 3
        assert all(1 <= place <= 20 for place in places)


def test_special_pieces_are_never_chosen_wherever_they_stand() -> None:
    rows = make_rows(100, 16, candidates=14)
    rows.ids[:, 5], rows.ids[:, 6], rows.ids[:, 7] = SPECIAL.sep, SPECIAL.cls, SPECIAL.mask
    assert maskable(rows, SPECIAL)[0].nonzero().flatten().tolist() == [1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14]
    assert {place for places in chosen(hide(rows)) for place in places} == {1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14}


def test_an_unknown_piece_is_text() -> None:
    rows = make_rows(1, 8, candidates=1)
    rows.ids[0, 1] = SPECIAL.unk
    assert chosen(hide(rows)) == [[1]]


def test_a_row_without_candidates_stays_as_it_is() -> None:
    rows = make_rows(2, 128, candidates=0)
    masked = hide(rows)
    assert torch.equal(masked.ids, rows.ids)
    assert not masked.positions.weight.any()


def test_only_chosen_positions_change_and_only_to_mask() -> None:
    rows = make_rows(50, 128, candidates=60)
    masked = hide(rows)
    is_chosen = torch.zeros_like(rows.ids).scatter_add(1, masked.positions.index, masked.positions.weight.long()) > 0
    changed = masked.ids != rows.ids
    assert changed.any()
    assert not (changed & ~is_chosen).any()
    assert (masked.ids[changed] == SPECIAL.mask).all()


def test_the_original_pieces_are_kept_as_the_answers() -> None:
    rows = make_rows(4, 128, candidates=126)
    masked = hide(rows)
    assert torch.equal(masked.original, masked.positions.index + 9)  # piece number 10 stands at position 1


def test_85_percent_of_the_chosen_are_hidden_and_the_rest_still_count() -> None:
    masked = hide(make_rows(1000, 128, candidates=126))
    shown = masked.ids.gather(1, masked.positions.index)
    total = 1000 * 19
    assert float(masked.positions.weight.sum()) == total
    hidden = int((shown == SPECIAL.mask).sum())
    deviation = (total * KEEP_RATE * (1 - KEEP_RATE)) ** 0.5  # binomial: 49
    assert abs(hidden - 0.85 * total) < 4 * deviation
    assert torch.equal(shown[shown != SPECIAL.mask], masked.original[shown != SPECIAL.mask])


def test_every_position_is_chosen_equally_often() -> None:
    places = torch.tensor(chosen(hide(make_rows(2000, 128, candidates=126)))).flatten()
    counts = torch.bincount(places, minlength=128)[1:127].float()
    expected = 2000 * 19 / 126
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 60 < chi_square < 180  # about 125 * (1 - 19/126) = 106, standard deviation 13


@pytest.mark.parametrize(("unmasked_fraction", "hidden"), [(0.0, 19), (1.0, 0)])
def test_the_keep_rate_decides_how_many_stay(unmasked_fraction: float, hidden: int) -> None:
    masked = hide(make_rows(1, 128, candidates=126), unmasked_fraction=unmasked_fraction)
    assert int((masked.ids == SPECIAL.mask).sum()) == hidden


def test_masks_are_fresh_in_every_epoch() -> None:
    first, second = (hide(make_rows(50, 128, candidates=126, epoch=epoch)) for epoch in (0, 1))
    same = sum(set(a) == set(b) for a, b in zip(chosen(first), chosen(second), strict=True))
    assert same == 0


def test_rows_of_one_batch_have_different_masks() -> None:
    assert len({tuple(places) for places in chosen(hide(make_rows(50, 128, candidates=126)))}) == 50


@pytest.mark.parametrize("size", [1, 3, 8])
def test_masks_do_not_depend_on_the_batch_that_a_row_is_in(size: int) -> None:
    rows = make_rows(8, 64, candidates=40)
    together, apart = hide(rows), [hide(part) for part in rows.split(size)]
    assert torch.equal(together.ids, torch.cat([masked.ids for masked in apart]))
    assert torch.equal(together.positions.index, torch.cat([masked.positions.index for masked in apart]))


@pytest.mark.parametrize("ranks", [2, 4])
def test_masks_do_not_depend_on_the_number_of_ranks(ranks: int) -> None:
    rows = make_rows(8, 64, candidates=40)

    def share(rank: int) -> Tensor:
        """Row numbers rank, rank + ranks, ... made by themselves."""
        mine = [make_rows(1, 64, candidates=40, first=number) for number in range(rank, 8, ranks)]
        return torch.cat([hide(row).ids for row in mine])

    together = hide(rows).ids
    for rank in range(ranks):
        assert torch.equal(share(rank), together[rank::ranks])
