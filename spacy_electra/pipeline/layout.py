"""Pack the windows of documents into one batch without padding. Takes pieces, returns arrays; pure numpy.

Legend: N pieces of all documents in a row, S tokens of all windows.
"""

import numpy as np

from spacy_electra.data.batch import Special
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.pipeline.windows import SPECIALS, cut_windows


def pack_windows(ids: np.ndarray, counts: np.ndarray, special: Special, *, room: int, stride: int) -> PackedBatch:
    """Split documents into windows, and pack these, the longest first. The output has one row a piece, (N,).

    ids: (N,) pieces of all documents, one document after another.
    counts: (documents,) pieces of each document.
    room: maximum pieces of a window.
    stride: maximum pieces from the start of one window to that of the next.
    """
    windows = cut_windows(counts, room=room, stride=stride)
    order = np.argsort(-windows.length, kind="stable")
    length = windows.length[order] + SPECIALS
    cu_seqlens = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(length)])
    first = np.empty_like(windows.start)  # token of each window
    first[order] = cu_seqlens[:-1]
    place = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], length)
    filled = ids[np.clip(np.repeat(windows.start[order], length) + place - 1, 0, len(ids) - 1)]
    filled[cu_seqlens[:-1]] = special.cls
    filled[cu_seqlens[1:] - 1] = special.sep
    shift = first + 1 - windows.start
    return PackedBatch(
        ids=filled,
        positions=place,
        cu_seqlens=cu_seqlens,
        output_index=np.repeat(shift, np.diff(windows.kept)) + np.arange(len(ids)),
    )
