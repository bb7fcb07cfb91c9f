"""Detect an encoder that collapses in training, or that gets no gradients.

In a collapse, all vectors become alike or the gradients explode. The learning rate is too high then, or it is high
before the heads have begun to learn (`model.optim.rates`).
"""

import logging

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

EVERY = 5  # training passes from one look at the vectors to the next
LOOKS = 4  # in a row at which vectors are alike
ALIKE = 0.4  # share of the spread at the start below which vectors are alike; healthy training keeps most of it
FEWEST = 16  # pieces whose spread says something
STEPS = 50  # whose gradient norms are compared by their median
GROWTH = 10.0  # of that median over the smallest one before, from which gradients have run away
UNANSWERED = 3  # training passes in a row without gradients; one may have failed
REMEDY = (
    "Start again with a lower learning rate for the transformer. In [training.optimizer], "
    '@optimizers = "spacy-electra.AdamW.v1" with transformer_rate = "auto", transformer_delay = 50 and '
    "transformer_warmup = 100 suits most encoders; with another optimizer lower learn_rate. If you have these, the "
    "encoder may not fit the text, as one of another language does not; else give transformer_rate a number."
)


class CollapseWatch:
    """Logs one warning if an encoder collapses in training, and one if it gets no gradients."""

    def __init__(self) -> None:
        self.has_warned = False
        self._passes = self._alike = 0
        self._first: float | None = None  # spread before training
        self._norms: list[Tensor] = []
        self._smallest: float | None = None  # median of gradient norms
        self._unanswered = 0
        self._has_told_of_answers = False

    def see_vectors(self, vectors: Tensor) -> None:
        """Check the spread of the vectors of a training batch, in every `EVERY`-th pass.

        vectors: (N, D) of the pieces of the batch.
        """
        self._passes += 1
        if self._passes % EVERY != 1 or len(vectors) < FEWEST:
            return
        spread = spread_of(vectors)
        if self._first is None:
            self._first = spread
        self._alike = self._alike + 1 if spread < ALIKE * self._first else 0
        if self._alike == LOOKS:
            self._warn(
                f"the vectors of all pieces have become alike (spread {spread:.3f}, {self._first:.3f} at the start), "
                f"so that no component can tell one token from another"
            )

    def see_gradients(self, norm: Tensor) -> None:
        """Check whether the gradients of training steps grow, by medians over `STEPS` steps.

        norm: () of all gradients of a step, before clipping.
        """
        self._norms.append(norm)
        if len(self._norms) < STEPS:
            return
        median = float(torch.stack(self._norms).median())
        self._norms = []
        if self._smallest is not None and median > GROWTH * self._smallest:
            self._warn(f"its gradients have grown from {self._smallest:.3g} to {median:.3g} and are still growing")
        self._smallest = median if self._smallest is None else min(median, self._smallest)

    def see_answer(self, was_answered: bool) -> None:
        """Check whether the encoder gets gradients; spaCy lets only the last listener pass them on.

        was_answered: whether the previous training pass got gradients.
        """
        self._unanswered = 0 if was_answered else self._unanswered + 1
        if self._unanswered == UNANSWERED and not self._has_told_of_answers:
            self._has_told_of_answers = True
            logger.warning(
                "the transformer does not learn: it gets no gradients from the last component of the pipeline that "
                "listens to it. Either the training documents have none of that component's annotations: add them, or "
                "remove the component. Or it is frozen or excluded: let a component that learns be the last, or give "
                "that one an encoder of its own with nlp.replace_listeners."
            )

    def _warn(self, what: str) -> None:
        if not self.has_warned:
            logger.warning("the transformer collapses: %s. %s", what, REMEDY)
        self.has_warned = True


@torch.no_grad()
def spread_of(vectors: Tensor) -> float:
    """Spread of vectors, 1 - |mean vector|^2 / mean |vector|^2: 0 if all are equal, at most 1.

    vectors: (N, D).
    """
    vectors = vectors.detach().float()
    total = vectors.square().sum(1).mean()
    return float(1 - vectors.mean(0).square().sum() / total) if total > 0 else 0.0
