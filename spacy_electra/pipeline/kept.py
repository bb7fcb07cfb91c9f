"""Bound the memory of the vectors that documents hold: the oldest are dropped, and recomputed when they are read.

A document's vectors depend on its pieces and the weights, so they can be recomputed as long as the weights stay.

Legend: n pieces of one document, D width.
"""

import copy
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from thinc.types import Floats3d, Ragged
from thinc.util import torch2xp
from torch import Tensor

from spacy_electra.data.corpus.limits import MB
from spacy_electra.pipeline.spacy_transformers_api import ModelOutput, TransformerData, WordpieceBatch

logger = logging.getLogger(__name__)

KEEP_MB = 1000.0  # as 256 documents of 1,300 pieces have in the width of ELECTRA base
CHANGED = (
    "the vectors of this document were dropped, since more than keep_mb = {megabytes:g} megabytes were held, and "
    "cannot be computed again: the transformer's weights or its precision have changed since. Annotate the document "
    "again, or raise keep_mb in [components.transformer.model]."
)
UNREAD = (
    "keep_mb = %g has no room for the vectors of all documents that wait to be read: they are computed again one by "
    "one, which is slow. Raise keep_mb in [components.transformer.model], or lower [nlp] batch_size."
)


@dataclass(frozen=True)
class Origin:
    """Recomputes the vectors of documents."""

    encode: Callable[[np.ndarray, np.ndarray], Tensor]  # ids and counts of some documents -> vectors of their pieces
    is_current: Callable[[], bool]  # false as soon as `encode` would give other vectors
    kept: "KeptVectors"


class KeptData(TransformerData):
    """A TransformerData whose vectors may be dropped, and are then recomputed when they are read."""

    def __init__(self, wordpieces: WordpieceBatch, model_output: ModelOutput | None, align: Ragged, origin: Origin):
        """model_output: the vectors (1, n, D), in an array of their own; None if they were dropped."""
        self.wordpieces = wordpieces
        self.align = align
        self.origin: Origin | None = origin
        self.is_read = False
        self._output: ModelOutput | None = model_output

    @property
    def model_output(self) -> ModelOutput:
        """The vectors, recomputed if they were dropped. Raises ValueError if the weights have changed since."""
        output = self._output
        if output is None:
            output = self._again()
        self.is_read = True
        return output

    @model_output.setter
    def model_output(self, output: ModelOutput) -> None:
        """Set vectors that were computed elsewhere; they are never dropped."""
        self.origin, self._output = None, output

    @property
    def held_bytes(self) -> int:
        """Bytes of the vectors; 0 if they were dropped."""
        return 0 if self._output is None else sum(array.nbytes for array in self._output.values())

    def drop(self) -> None:
        """Drop the vectors, unless they cannot be recomputed."""
        if self.origin is not None:
            self._output = None

    def _again(self) -> ModelOutput:
        assert self.origin is not None
        kept = self.origin.kept
        ids = np.asarray(self.wordpieces.input_ids[0])
        vectors = self.origin.encode(ids, np.array([len(ids)], dtype=np.int64)) if self.origin.is_current() else None
        if vectors is None or not self.origin.is_current():  # the second time: weights that changed meanwhile
            raise ValueError(CHANGED.format(megabytes=kept.megabytes))
        if not self.is_read:
            kept.warn_of_unread()
        output = self._output = output_of(cast(Floats3d, torch2xp(vectors[None])))
        kept.hold([self])
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformerData:
        """Copy for `Doc.copy`. Its vectors count towards the limit; vectors that were dropped are not recomputed."""
        output, origin = copy.deepcopy(self._output, memo), self.origin
        if origin is None:
            return TransformerData(self.wordpieces, cast(ModelOutput, output), self.align)
        other = KeptData(self.wordpieces, output, self.align, origin)
        if output is not None:
            origin.kept.hold([other])
        return other

    def __copy__(self) -> TransformerData:
        return self.__deepcopy__({})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a plain TransformerData with its vectors."""
        return TransformerData, (self.wordpieces, self.model_output, self.align)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.wordpieces.input_ids.size} pieces>"


class KeptVectors:
    """Counts the vectors that documents hold, and drops the oldest above a limit. Threads may share it."""

    def __init__(self, megabytes: float):
        self.megabytes = megabytes
        self._size = 0
        self._held: dict[int, tuple[weakref.ref[KeptData], int]] = {}  # by the reference's id, oldest first
        self._dead: deque[weakref.ref[KeptData]] = deque()  # a garbage collection may append while the lock is held
        self._lock = threading.Lock()
        self._has_warned = False

    @property
    def size(self) -> int:
        """Bytes of all vectors that are held."""
        with self._lock:
            self._count_dead()
            return self._size

    def hold(self, new: Sequence[KeptData]) -> None:
        """Count the vectors of new documents, and drop older ones until all fit. New ones are never dropped."""
        with self._lock:
            self._count_dead()
            for data in new:
                reference = weakref.ref(data, self._dead.append)
                size = data.held_bytes
                self._held[id(reference)] = (reference, size)
                self._size += size
            while self._size > self.megabytes * MB and len(self._held) > len(new):
                reference, size = self._held.pop(next(iter(self._held)))
                self._size -= size
                if (old := reference()) is not None:
                    old.drop()

    def _count_dead(self) -> None:
        while self._dead:
            _, size = self._held.pop(id(self._dead.popleft()), (None, 0))
            self._size -= size

    def warn_of_unread(self) -> None:
        """Log, once, that vectors were dropped before they were read."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(UNREAD, self.megabytes)


def output_of(vectors: Floats3d) -> ModelOutput:
    """The model output with the vectors (1, n, D) as last hidden state."""
    return ModelOutput(last_hidden_state=vectors)
