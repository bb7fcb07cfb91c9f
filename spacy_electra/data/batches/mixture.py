"""Mix the rows of several stores by weight. Takes packings, returns batches as a single packing does.

The store of a global row follows from its number and the weights alone. Each store keeps its own epochs and order, as
if it were read by itself. Random keys follow from the global row.

Legend: B rows, T pieces a row.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from spacy_electra.data.batch import Rows, joined
from spacy_electra.data.batches.packing import Packing, check_batch
from spacy_electra.data.rng import row_keys

_UNITS = 1_000_000  # of weight 1.0; whole numbers, so that shares are exact however long a run is
_MIXED = -2  # the epoch of all keys; no epoch of a packing has this number


class Mixture:
    """Endless rows of several packings in the proportions of their weights. The first packing counts the epochs."""

    def __init__(self, packings: Sequence[Packing], *, weights: Sequence[float]) -> None:
        """packings: of one window and one seed, the main one first.
        weights: of each packing, above 0.

        In any run of rows, each of two packings has its share to within one row. Of three or more, the main one has.
        """
        main = packings[0]
        assert len(weights) == len(packings)
        assert min(weights) > 0
        assert all((each.window, each.seed) == (main.window, main.seed) for each in packings)
        self._packings = packings
        self._weights = [max(1, round(weight * _UNITS)) for weight in weights]
        self.window = main.window
        self.seed = main.seed
        total = sum(self._weights)
        self.shares = [weight / total for weight in self._weights]  # of the rows
        self.rows = -(-main.rows * total // self._weights[0])  # in which the main packing's epoch ends
        pieces_per_row = [each.epoch_pieces / each.rows for each in packings]
        self.epoch_pieces = round(self.rows * float(np.dot(self.shares, pieces_per_row)))  # of text, in so many rows

    def batch(self, first_row: int, count: int) -> Rows:
        """Rows first_row..first_row+count-1 of the endless sequence (B = count).

        Rows.keys come from the seed and the global row.
        """
        check_batch(first_row, count)
        run = np.arange(first_row, first_row + count)
        source, own = self.places(run)
        parts, places = [], []
        for number, packing in enumerate(self._packings):
            here = np.flatnonzero(source == number)
            if len(here):  # rows in succession of the packing
                parts.append(packing.batch(int(own[here[0]]), len(here)))
                places.append(here)
        row = torch.from_numpy(run)
        keys = row_keys(self.seed, epoch=torch.full_like(row, _MIXED), row=row)
        return replace(joined(parts, torch.from_numpy(np.concatenate(places))), keys=keys)

    def places(self, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each global row (B,), the number of its packing (B,) and the row number within that packing (B,).

        The first packing takes its share of all rows, spread as evenly as a line in pixels (Bresenham 1965). The second
        takes its share of the remaining rows, and so on.

        run: (B,) global rows.
        """
        source, own = np.zeros_like(run), run.copy()  # own: the number among the rows of `source` and those behind it
        for number, weight in enumerate(self._weights[:-1]):
            total = sum(self._weights[number:])
            before, through = (_taken(rows, weight, total) for rows in (own, own + 1))
            is_open, is_taken = source == number, through > before
            source += is_open & ~is_taken
            own = np.where(is_open, np.where(is_taken, before, own - before), own)
        return source, own


def _taken(rows: np.ndarray, weight: int, total: int) -> np.ndarray:
    """How many (B,) of the first `rows` (B,) belong to a weight, rounded up, so that it has the very first row.

    Whole rounds of `total` rows are counted apart, so that no product overflows.
    """
    rounds, rest = np.divmod(rows, total)
    answer: np.ndarray = rounds * weight - (-rest * weight) // total
    return answer
