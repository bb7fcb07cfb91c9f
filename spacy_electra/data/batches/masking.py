"""Choose and mask the positions that the generator predicts. Takes rows of pieces, returns positions; pure.

Legend: B rows, T pieces a row, K masked positions a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.rng import Purpose, random_bits, random_uniform


@dataclass(frozen=True)
class Positions:
    """The masked positions. Rows with fewer than K candidates have weight 0 at the end."""

    index: Tensor  # (B, K) int64, distinct within a row where the weight is 1
    weight: Tensor  # (B, K) float32, 1 chosen or 0 filler


@dataclass(frozen=True)
class Masked:
    """The input of the generator and its targets."""

    ids: Tensor  # (B, T) pieces, some hidden behind [MASK]
    positions: Positions
    original: Tensor  # (B, K) the pieces that stood at the chosen positions

    def split(self, size: int) -> list["Masked"]:
        """The same rows in order, in batches of at most `size`."""
        parts = [t.split(size) for t in (self.ids, self.positions.index, self.positions.weight, self.original)]
        return [
            Masked(ids=ids, positions=Positions(index=index, weight=weight), original=original)
            for ids, index, weight, original in zip(*parts, strict=True)
        ]


def chosen_per_row(width: int, rate: float) -> int:
    """Number K of masked positions in a row: the rounded share, at least one (19 of 128 at 15 %, as in Google's code).

    width: pieces a row.
    rate: share in (0, 1).
    """
    return max(1, int(width * rate + 0.5))


def maskable(rows: Rows, special: Special) -> Tensor:
    """(B, T) true where a piece may be masked: real text, not one of [CLS], [SEP], [MASK], [PAD]."""
    answer = rows.is_real
    for piece in (special.pad, special.cls, special.sep, special.mask):
        answer = answer & (rows.ids != piece)
    return answer


def choose_positions(can_mask: Tensor, *, rate: float, keys: Tensor) -> Positions:
    """Choose distinct positions to mask: `rate` of each row's candidates, and at least one if there is any.

    Follows the paper, section 3.1. Google's released code draws with replacement, which the paper does not mention.

    can_mask: (B, T) bool, the candidates.
    rate: share in (0, 1).
    keys: (B,) int64 random keys.
    """
    width = can_mask.shape[1]
    most = chosen_per_row(width, rate)
    candidates = can_mask.sum(dim=1, keepdim=True)
    wanted = torch.clamp((candidates * rate + 0.5).to(torch.int64), min=1, max=most)
    wanted = torch.minimum(wanted, candidates)
    lot = random_bits(keys, Purpose.POSITIONS, width)
    lot = torch.where(can_mask, lot, torch.iinfo(torch.int64).max)
    index = torch.topk(lot, most, dim=1, largest=False, sorted=True).indices
    weight = torch.arange(most, device=index.device) < wanted
    return Positions(index=index, weight=weight.to(torch.float32))


def mask_rows(rows: Rows, special: Special, *, rate: float, unmasked_fraction: float) -> Masked:
    """Replace the chosen positions by [MASK], except for a fraction that stays unchanged and is predicted all the same.

    rate: share of positions to choose (paper: 0.15; large: 0.25).
    unmasked_fraction: share of the chosen positions that stay unchanged (paper: 0.15).
    """
    positions = choose_positions(maskable(rows, special), rate=rate, keys=rows.keys)
    original = rows.ids.gather(1, positions.index)
    chance = random_uniform(rows.keys, Purpose.KEEP, positions.index.shape[1])
    hide = (chance >= unmasked_fraction) & (positions.weight > 0)
    shown = torch.where(hide, special.mask, original)
    return Masked(ids=rows.ids.scatter(1, positions.index, shown), positions=positions, original=original)
