"""Vectors of documents, spans and tokens from the transformer's: `doc.vector`, `doc.similarity` and their like.

A token has the mean of its pieces' vectors, white space zeros; a document or a span has the mean of its tokens'.

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
    """(m, D) vectors of the tokens from `begin` to `end`."""
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
    """True where a token has a piece, unless the document's `trf_data` was taken away or its tokens were merged."""
    doc, begin, end = _range(part)
    data: TransformerData | None = doc._.trf_data
    if data is None or len(data.align.lengths) != len(doc):
        return False
    return bool(data.align.lengths[begin:end].any())


def vector(part: Part) -> Floats1d:
    """(D,) mean of the tokens' vectors; empty, as spaCy has it, where there is none."""
    doc, begin, end = _range(part)
    if not has_vector(doc):
        return cast(Floats1d, np.zeros((0,), dtype=np.float32))
    pooled = token_vectors(doc._.trf_data, begin, end)
    return pooled.mean(axis=0) if end > begin else pooled.sum(axis=0)


def vector_norm(part: Part) -> float:
    found = vector(part)
    return float(get_array_module(found).linalg.norm(found))


def similarity(part: Part, other: Any) -> float:
    """Cosine between two vectors. Warns as spaCy does, and gives 0, where one of them is missing."""
    if not part.has_vector or not other.has_vector:
        warnings.warn(Warnings.W008.format(obj=type(part).__name__), stacklevel=2)
        return 0.0
    one, two = part.vector, other.vector
    norm = get_array_module(one).linalg.norm
    return float(one @ two / (norm(one) * norm(two)))


HOOKS: dict[str, Callable[..., Any]] = {"has_vector": has_vector, "vector": vector, "similarity": similarity}


def hook_vectors(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Let documents compute their vectors when somebody asks. Static vectors and hooks that are there stay."""
    for doc in docs:
        if not doc.vocab.vectors.size:
            doc.user_hooks = HOOKS | {"vector_norm": vector_norm} | doc.user_hooks
            doc.user_span_hooks = HOOKS | doc.user_span_hooks
            doc.user_token_hooks = HOOKS | doc.user_token_hooks


def store_vectors(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Write the tokens' vectors into `doc.tensor`, which spaCy makes all vectors of, and which goes into its bytes."""
    for doc, data in zip(docs, batch.doc_data, strict=True):
        if len(doc):
            doc.tensor = cast(np.ndarray, token_vectors(data, 0, len(doc)))


def annotate(docs: Sequence[Doc], batch: FullTransformerBatch) -> None:
    """Hooks, or where documents leave this process as bytes, which hold no hooks, what goes into the bytes."""
    (store_vectors if parent_process() is not None else hook_vectors)(docs, batch)


def create_vectors(*, store: bool = False) -> Annotate:
    """What `@annotation_setters = "spacy-electra.vectors.v1"` makes.

    store: write the vectors into `doc.tensor`, as long as a document lives, instead of computing them when asked for.
    Workers of `nlp.pipe(n_process=2)` do so in any case.
    """
    return store_vectors if store else annotate
