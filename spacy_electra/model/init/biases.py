"""Initialize the output biases with piece frequencies, so that training does not start by learning them.

Otherwise both halves first learn a constant output. In small models this makes the encoder lose its rank: every piece
gets the same vector (docs/experiments/small-models.md). The discriminator's bias is the prior of Lin et al. 2017 (focal
loss, section 3.3), the generator's the logarithm of the unigram frequencies.

Legend: V vocabulary.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
import torch

from spacy_electra.data.store.reader import Store
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel

MOST_COUNTED = 10_000_000  # at most: more change no bias that matters
STRETCHES = 64  # evenly spread, since a corpus may be sorted by source
UNSEEN_COUNT = 0.5  # what a piece that was never seen counts
REPLACED_OF_CHOSEN = 0.75  # the other samples happen to be the original piece, once the generator has learned a little


def read_evenly(store: Store, most: int, *, without: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Chunks of about `most` evenly spread pieces of the store; all pieces in one chunk if there are no more.

    without: (N, 2) sorted ranges of pieces to leave out.
    """
    size = store.pieces if store.pieces <= most else max(1, most // STRETCHES)
    count = 1 if size == store.pieces else STRETCHES
    for start in np.linspace(0, store.pieces - size, count).astype(np.int64).tolist():
        for first, last in _between(start, start + size, without):
            yield store.read(first, last)


def _between(start: int, stop: int, without: np.ndarray | None) -> Iterator[tuple[int, int]]:
    """What is left of start..stop without the ranges (N, 2)."""
    inside = [] if without is None else without[(without[:, 0] < stop) & (without[:, 1] > start)].tolist()
    for first, last in inside:
        if first > start:
            yield start, first
        start = last
    if start < stop:
        yield start, stop


def piece_counts(
    store: Store, vocab_size: int, *, most: int = MOST_COUNTED, without: np.ndarray | None = None
) -> np.ndarray:
    """Number of occurrences of each piece, (V,) int64, in the whole store or in about `most` of its pieces.

    without: as for `read_evenly`.
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    for chunk in read_evenly(store, most, without=without):
        counts += np.bincount(chunk, minlength=vocab_size)
    return counts


def start_from_frequencies(
    network: Electra | MaskedLanguageModel,
    counts: np.ndarray,
    *,
    mask_rate: float,
    heads: Collection[str] = ("masked_head", "replaced_head"),
) -> None:
    """Set the output biases of the heads, in place.

    counts: (V,), as `piece_counts` gives them.
    mask_rate: share of masked pieces.
    heads: names of the heads to set.
    """
    smoothed = torch.from_numpy(counts).double() + UNSEEN_COUNT
    bias = (smoothed / smoothed.sum()).log().float()
    replaced = mask_rate * REPLACED_OF_CHOSEN
    with torch.no_grad():
        if "masked_head" in heads:
            network.masked_head.bias[: len(bias)].copy_(bias)
        if isinstance(network, Electra) and "replaced_head" in heads:
            network.replaced_head.score.bias.fill_(math.log(replaced / (1.0 - replaced)))
