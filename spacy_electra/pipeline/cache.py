"""A cache of document vectors, so that a frozen transformer does not encode the same corpus in every epoch.

A document's vectors depend on its pieces and the weights, not on the rest of a batch, so the pieces are the key.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from spacy_electra.data.corpus.limits import MB

EncodePacked = Callable[
    [np.ndarray, np.ndarray], Tensor
]  # ids and counts of some documents -> vectors of all their pieces


class VectorCache:
    """A least-recently-used cache of the vectors of documents. Threads may share it."""

    def __init__(self, megabytes: float):
        self.room = int(megabytes * MB)
        self._vectors: OrderedDict[bytes, Tensor] = OrderedDict()
        self._size = 0
        self._weights: object = None
        self._lock = threading.Lock()

    def look_up(self, ids: np.ndarray, counts: np.ndarray, *, weights: object, encode: EncodePacked) -> Tensor:
        """(N, D) vectors of documents; those that are not cached are encoded, and cached.

        ids: (N,) pieces of all documents, one document after another.
        counts: (documents,) pieces of each document.
        weights: identifies the weights; the cache is cleared if it differs from that of the last call.
        encode: computes the vectors of documents that are not cached.
        """
        if not len(counts):
            return encode(ids, counts)
        documents = np.split(ids, np.cumsum(counts)[:-1])
        keys = [document.tobytes() for document in documents]
        known = self._known(keys, weights)
        missing = {key: number for number, key in enumerate(keys) if key not in known}  # each once
        if missing:
            numbers = list(missing.values())
            some = np.concatenate([documents[number] for number in numbers])
            vectors = encode(some, counts[numbers])
            fresh = dict(zip(missing, vectors.split(counts[numbers].tolist()), strict=True))
            self._keep(fresh, weights)
            known |= fresh
        return torch.cat([known[key] for key in keys])

    def _known(self, keys: list[bytes], weights: object) -> dict[bytes, Tensor]:
        with self._lock:
            if weights != self._weights:
                self._vectors.clear()
                self._size, self._weights = 0, weights
            for key in keys:
                if key in self._vectors:
                    self._vectors.move_to_end(key)
            return {key: self._vectors[key] for key in keys if key in self._vectors}

    def _keep(self, fresh: dict[bytes, Tensor], weights: object) -> None:
        with self._lock:
            if weights != self._weights:  # other weights came while these vectors were made
                return
            for key, vectors in fresh.items():
                if key not in self._vectors:
                    self._vectors[key] = vectors.clone()  # not a view that would hold the whole batch
                    self._size += _bytes(key, vectors)
            while self._size > self.room:
                key, vectors = self._vectors.popitem(last=False)
                self._size -= _bytes(key, vectors)


def _bytes(key: bytes, vectors: Tensor) -> int:
    return len(key) + vectors.numel() * vectors.element_size()
