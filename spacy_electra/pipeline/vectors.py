"""Compute `doc.vector`, `doc.similarity` and related attributes from the transformer's vectors.

The vector of a token is the mean of its pieces' vectors, zeros for white space; that of a document or span is the mean
of its tokens' vectors.

Legend: m tokens, D width.
"""

import warnings
from collections.abc import Callable, Sequence
from multiprocessing import parent_process
from typing import Any, cast

import numpy as np
from spacy.errors import Warnings
from spacy.tokens import Doc, Span, Token
from thinc.api import get_array_module
from thinc.backends import get_array_ops
from thinc.types import Floats1d, Floats2d, FloatsXd

from spacy_electra.pipeline.spacy_transformers_api import FullTransformerBatch, TransformerData

Annotate = Callable[[Sequence[Doc], FullTransformerBatch], None]
Part = Doc | Span | Token


def token_vectors(data: TransformerData, begin: int, end: int) -> Floats2d:
    """(m, D) vectors of the tokens from `begin` to `end`, exclusive."""
    (vectors,) = cast(tuple[FloatsXd], data.tensors)
    ops = get_array_ops(vectors)
    lengths = data.align.lengths[begin:end]
    first = int(data.align.lengths[:begin].sum())
    pieces = data.align.dataXd[first : first + int(lengths.sum())]
    flat = ops.reshape2f(vectors, -1, data.width)
    if not len(pieces):  # which thinc cannot reduce
        zeros: Floats2d = ops.alloc2f(end - begin, data.width)
        return zeros
    pooled: Floats2d = ops.reduce_mean(flat[ops.asarray1i(pieces)], ops.asarray1i(lengths))
    return pooled


def _range(part: Part) -> tuple[Doc, int, int]:
    if isinstance(part, Doc):
        return part, 0, len(part)
    return (part.doc, part.start, part.end) if isinstance(part, Span) else (part.doc, part.i, part.i + 1)


def has_vector(part: Part) -> bool:
    """True if a token has a piece; false if the document has no `trf_data` or was retokenized."""
    doc, begin, end = _range(part)
    data: TransformerData | None = doc._.trf_data
    if data is None or len(data.align.lengths) != len(doc):
        return False
    return bool(data.align.lengths[begin:end].any())


def vector(part: Part) -> Floats1d:
    """(D,) mean of the tokens' vectors; empty, as in spaCy, if the document has none."""
    doc, begin, end = _range(part)
    if not has_vector(doc):
        return cast(Floats1d, np.zeros((0,), dtype=np.float32))
    pooled = token_vectors(doc._.trf_data, begin, end)
    return pooled.mean(axis=0) if end > begin else pooled.sum(axis=0)


def vector_norm(part: Part) -> float:
    """L2 norm of the vector; 0 if there is none."""
    found = vector(part)
    return float(get_array_module(found).linalg.norm(found))


def similarity(part: Part, other: Any) -> float:
    """Cosine similarity of two vectors. If one is missing, returns 0 with spaCy's warning."""
    if not part.has_vector or not other.has_vector:
        warnings.warn(Warnings.W008.format(obj=type(part).__name__), stacklevel=2)
        return 0.0
    one, two = part.vector, other.vector
    norm = get_array_module(one).linalg.norm
    return float(one @ two / (norm(one) * norm(two)))


HOOKS: dict[str, Callable[..., Any]] = {"has_vector": has_vector, "vector": vector, "similarity": similarity}


def hook_vectors(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Set hooks that compute vectors on access. Existing hooks stay, and documents with static vectors get none."""
    for doc in docs:
        if not doc.vocab.vectors.size:
            doc.user_hooks = HOOKS | {"vector_norm": vector_norm} | doc.user_hooks
            doc.user_span_hooks = HOOKS | doc.user_span_hooks
            doc.user_token_hooks = HOOKS | doc.user_token_hooks


def store_vectors(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Write the tokens' vectors into `doc.tensor`, which spaCy computes all vectors from, and which it serializes."""
    for doc, data in zip(docs, batch.doc_data, strict=True):
        if len(doc):
            doc.tensor = cast(np.ndarray, token_vectors(data, 0, len(doc)))


def annotate(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Set hooks; in a worker process store the vectors instead, since documents are serialized there without hooks."""
    (store_vectors if parent_process() is not None else hook_vectors)(docs, batch)


def create_vectors(*, store: bool = False) -> Annotate:
    """Create the annotation setter `spacy-electra.vectors.v1`.

    store: write the vectors into `doc.tensor` instead of computing them on access. Workers of `nlp.pipe(n_process=2)`
        always do so.
    """
    return store_vectors if store else annotate
