"""Split documents into pieces, and align these with tokens. Takes Docs and a tokenizer, returns arrays.

The tokenizer reads the text of a document, so that the pieces do not depend on spaCy's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from spacy.attrs import IDX, IS_SPACE, LENGTH
from spacy.tokens import Doc

from spacy_electra.data.tokenizer.wordpiece import Pieces, WordPiece
from spacy_electra.pipeline.alignment import Alignment, Spans, align


@dataclass(frozen=True)
class DocPieces:
    """The N pieces of some documents, one document after another, aligned with their M tokens."""

    ids: np.ndarray  # (N,) int64
    counts: np.ndarray  # (documents,) int64 pieces of each; none only where there are no tokens
    tokens: np.ndarray  # (documents,) int64 tokens of each
    alignment: Alignment  # of the M tokens


def cut_pieces(docs: Sequence[Doc], tokenizer: WordPiece) -> DocPieces:
    """Tokenize all documents in one call. A text from which the tokenizer keeps nothing becomes one [UNK]."""
    texts = [doc.text for doc in docs]
    cut = tokenizer.encode(texts)
    for number, text in enumerate(texts):
        if text and not len(cut[number]):
            cut[number] = _unknown(text, tokenizer.special.unk)
    lengths = np.array([len(text) + 1 for text in texts], dtype=np.int64)  # so that no piece reaches the next text
    begin = np.cumsum(lengths) - lengths
    counts = np.array([len(p.ids) for p in cut], dtype=np.int64)
    tokens = np.array([len(doc) for doc in docs], dtype=np.int64)
    last = np.cumsum(counts)
    columns = np.concatenate([doc.to_array([IDX, LENGTH, IS_SPACE]) for doc in docs]).astype(np.int64)
    token_start = columns[:, 0] + np.repeat(begin, tokens)
    offsets = np.concatenate([p.offsets for p in cut]) + np.repeat(begin, counts)[:, None]
    alignment = align(
        Spans(start=token_start, end=token_start + columns[:, 1]),
        Spans(start=offsets[:, 0], end=offsets[:, 1]),
        is_space=columns[:, 2] > 0,
        bounds=np.repeat(np.stack([last - counts, last], axis=1), tokens, axis=0),
    )
    ids = np.concatenate([p.ids for p in cut]).astype(np.int64)
    return DocPieces(ids=ids, counts=counts, tokens=tokens, alignment=alignment)


def _unknown(text: str, unk: int) -> Pieces:
    """One [UNK] that covers the whole text."""
    return Pieces(ids=np.array([unk], dtype=np.int32), offsets=np.array([[0, len(text)]], dtype=np.int32))
