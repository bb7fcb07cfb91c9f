"""A batch of vectors in the data classes of spacy-transformers' component and listeners.

Each document has one window here, however many the encoder read: its pieces in text order, without [CLS] and [SEP],
with one vector each. The pieces of all documents are in one row.

Legend: N pieces of all documents, M tokens of all documents, n pieces of one document, D width.
"""

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from spacy.tokens import Doc
from thinc.types import Floats2d, Floats3d, Ints1d, Ints2d, Ragged
from thinc.util import get_array_module, torch2xp, xp2torch
from torch import Tensor

from spacy_electra.pipeline.kept import KeptData, Origin, output_of
from spacy_electra.pipeline.pieces import DocPieces
from spacy_electra.pipeline.spacy_transformers_api import (
    FullTransformerBatch,
    ModelOutput,
    TransformerData,
    WordpieceBatch,
)


@dataclass
class ElectraBatch(FullTransformerBatch):
    """A `FullTransformerBatch` that is split and joined by array slices, not token by token."""

    pieces: DocPieces = field(kw_only=True)
    origin: Origin | None = None  # of the vectors; None where they cannot be computed again, as in training

    @classmethod
    def of(
        cls, docs: list[Doc], pieces: DocPieces, vectors: Tensor, names: np.ndarray, *, origin: Origin | None = None
    ) -> "ElectraBatch":
        """Make a batch from the vectors of the documents' pieces.

        vectors: (N, D) float32, without gradient.
        names: (vocabulary,) the string of every piece.
        origin: recomputes the vectors; None in training.
        """
        strings = names[pieces.ids].tolist()
        return cls(
            spans=[[doc[:]] if len(doc) else [] for doc in docs],
            wordpieces=_wordpieces(pieces.ids, strings),
            model_output=ModelOutput(last_hidden_state=vectors[None]),
            align=_ragged(pieces.alignment.flat, pieces.alignment.count),
            pieces=pieces,
            origin=origin,
        )

    @property
    def vectors(self) -> Tensor:
        """(N, D) vectors; in a batch of `unsplit_by_doc`, the gradients of the loss with respect to them."""
        return cast(Tensor, self.model_output["last_hidden_state"])[0]

    def split_by_doc(self) -> list[TransformerData]:
        """One TransformerData a document, with tensors (1, n, D); empty for documents without tokens.

        With an origin, each has an array of its own, which `KeptVectors` may drop.
        """
        vectors = cast(Floats3d, torch2xp(self.model_output["last_hidden_state"]))
        strings, flat = self.wordpieces.strings[0], self.align.dataXd
        piece = np.concatenate([[0], np.cumsum(self.pieces.counts)]).tolist()
        token = np.concatenate([[0], np.cumsum(self.pieces.tokens)]).tolist()
        link = np.concatenate([[0], np.cumsum(self.pieces.alignment.count)])[token].tolist()
        answer, kept = [], []
        for number, count in enumerate(self.pieces.counts.tolist()):
            if not count:
                answer.append(TransformerData.empty())
                continue
            mine = slice(piece[number], piece[number + 1])
            links = flat[link[number] : link[number + 1]] - piece[number]
            wordpieces = _wordpieces(self.pieces.ids[mine].copy(), strings[mine])
            align = _ragged(links, self.pieces.alignment.count[token[number] : token[number + 1]])
            if self.origin is None:
                answer.append(TransformerData(wordpieces, output_of(vectors[:, mine]), align))
            else:
                kept.append(KeptData(wordpieces, output_of(vectors[:, mine].copy()), align, self.origin))
                answer.append(kept[-1])
        if self.origin is not None:
            self.origin.kept.hold(kept)
        return answer

    def unsplit_by_doc(self, arrays: list[list[Floats3d]]) -> "ElectraBatch":
        """Join the gradients of the documents into a batch of gradients.

        arrays: one array (1, n, D) for each document that has tokens.
        """
        xp = get_array_module(arrays[0][0])
        gradient = xp2torch(xp.concatenate([array for (array,) in arrays], axis=1))
        return ElectraBatch(
            spans=self.spans,
            wordpieces=self.wordpieces,
            model_output=ModelOutput(last_hidden_state=gradient),
            align=self.align,
            pieces=self.pieces,
        )


def _wordpieces(ids: np.ndarray, strings: list[str]) -> WordpieceBatch:
    """A `WordpieceBatch` of one row with the pieces (n,)."""
    return WordpieceBatch(
        strings=[strings],
        input_ids=cast(Ints2d, ids[None]),
        attention_mask=cast(Floats2d, np.ones((1, len(ids)), dtype=np.float32)),
        lengths=[len(ids)],
        token_type_ids=None,
    )


def _ragged(flat: np.ndarray, lengths: np.ndarray) -> Ragged:
    return Ragged(cast(Ints1d, flat.astype(np.int32)), cast(Ints1d, lengths.astype(np.int32)))
