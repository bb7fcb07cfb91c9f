"""Batches on the device of the run: for GPUs the next batch is made and copied while the last one is used."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing


class Feed:
    """Batches of a packing. The next one can be made in advance, since its rows depend only on their numbers."""

    def __init__(
        self, packing: Packing | Mixture, device: torch.device, *, step: int, pool: ThreadPoolExecutor | None
    ) -> None:
        """step: number of rows from the start of one batch to that of the next.
        pool: makes the next batch in advance; None for no prefetching.
        """
        self.packing, self.device, self.step, self.pool = packing, device, step, pool
        self.ahead: tuple[tuple[int, int], Future[Rows]] | None = None  # what is being made

    def batch(self, first_row: int, count: int) -> Rows:
        """As `Packing.batch`, on the device."""
        made, self.ahead = self.ahead, None
        is_here = made is not None and made[0] == (first_row, count)
        rows = made[1].result() if made is not None and is_here else self._make(first_row, count)
        if self.pool is not None:
            following = (first_row + self.step, count)
            self.ahead = (following, self.pool.submit(self._make, *following))
        return rows

    def _make(self, first_row: int, count: int) -> Rows:
        rows = self.packing.batch(first_row, count)
        if self.device.type == "cuda":
            return rows.pinned().to(self.device, non_blocking=True)
        return rows.to(self.device)


@contextmanager
def feeding(
    packing: Packing | Mixture, device: torch.device, *, step: int, is_ahead: bool | None = None
) -> Iterator[Feed]:
    """A feed, with a thread of its own if it prefetches.

    step: number of rows from the start of one batch to that of the next.
    is_ahead: whether to prefetch; None for NVIDIA GPUs only, whose streams threads may share.
    """
    if not (device.type == "cuda" if is_ahead is None else is_ahead):
        yield Feed(packing, device, step=step, pool=None)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="rows") as pool:
        yield Feed(packing, device, step=step, pool=pool)
