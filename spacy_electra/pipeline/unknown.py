"""Detect texts that the vocabulary of an encoder does not cover."""

import logging

import numpy as np

logger = logging.getLogger(__name__)

FEW_PIECES = 20  # which may well be a symbol or a name


class UnknownWatch:
    """Logs one warning if most pieces of a batch are [UNK]."""

    def __init__(self) -> None:
        self.has_warned = False

    def see_pieces(self, ids: np.ndarray, *, unk: int) -> None:
        """Check the share of unknown pieces in a batch.

        ids: (N,) pieces.
        unk: the id of [UNK].
        """
        if self.has_warned or len(ids) < FEW_PIECES:
            return
        share = np.count_nonzero(ids == unk) / len(ids)
        if share > 0.5:
            self.has_warned = True
            logger.warning(
                "%.0f %% of the pieces of a text are unknown ([UNK]) to the transformer's vocabulary, so that their "
                "vectors say little: it was trained on another language or script. Take one of the text's language.",
                100 * share,
            )
