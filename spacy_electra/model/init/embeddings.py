"""Initialize word embeddings from co-occurrence counts in the corpus.

Pieces in similar contexts get similar vectors before the first step. Otherwise the first thousand steps would learn
this (docs/experiments/cooccurrence-embeddings.md). The method factors the positive pointwise mutual information of
pieces and their neighbours: Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization", section
4. Smoothed contexts and the square root of the singular values follow Levy, Goldberg and Dagan 2015, "Improving
distributional similarity", sections 3.2 and 3.3.

Legend: V vocabulary, C context pieces, E embedding width.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from spacy_electra.data.store.reader import Store
from spacy_electra.model.init.biases import read_evenly
from spacy_electra.model.init.schemes import EMBEDDING_STD
from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel

MOST_PAIRED = 10_000_000  # at most, evenly spread
NEAR, FAR = 2, 5  # pieces away: near ones are told apart by their side, which is grammar; far ones are not, it is topic
CONTEXTS = 4096  # pieces that count as neighbours, the most frequent ones
MOST_NUMBERS = 2**25  # in a table of neighbours, 128 MiB; a larger vocabulary has fewer contexts
CONTEXT_EXPONENT = 0.75  # exponent of the contexts' frequencies: rare ones tell less than their surprise says
SPARE = 16  # more singular vectors than asked for make those more exact (Halko, Martinsson and Tropp 2011)


@isolated()
def start_from_neighbours(
    network: Electra | MaskedLanguageModel,
    store: Store,
    counts: np.ndarray,
    *,
    seed: int,
    without: np.ndarray | None = None,
    others: Sequence[Store] = (),
) -> None:
    """Set the word embeddings of pieces that occur, in place; their norms are those of random vectors.

    counts: (V,) number of occurrences of each piece.
    seed: of the factorization and of the random rotation.
    without: (N, 2) ranges of pieces to leave out.
    others: further stores of the text.
    """
    words = network.embeddings.word.weight
    contexts = most_frequent(counts, most=min(CONTEXTS, MOST_NUMBERS // len(counts)))
    texts = [read_evenly(store, MOST_PAIRED, without=without)]
    texts += [read_evenly(other, MOST_PAIRED) for other in others]
    tables = count_neighbours(chain.from_iterable(texts), contexts)
    vectors = embed(tables, width=words.shape[1], seed=seed)
    seen = torch.from_numpy(counts > 0) & (vectors.norm(dim=1) > 0)
    with torch.no_grad():
        words[: len(counts)][seen] = vectors[seen] * (EMBEDDING_STD * words.shape[1] ** 0.5)


def most_frequent(counts: np.ndarray, *, most: int) -> Tensor:
    """(V,) int64: the column of each of the `most` most frequent pieces, -1 for all others."""
    order = torch.from_numpy(counts).argsort(descending=True, stable=True)[: max(1, most)]
    order = order[torch.from_numpy(counts)[order] > 0]
    columns = torch.full((len(counts),), -1, dtype=torch.int64, device="cpu")
    columns[order] = torch.arange(len(order), device="cpu")
    return columns


def count_neighbours(chunks: Iterable[np.ndarray], contexts: Tensor) -> Tensor:
    """(3, V, C) float32: counts of each context piece shortly before a piece, shortly after it, and in a wider window.

    chunks: running text as pieces; the ends of consecutive documents count as neighbours, too.
    contexts: (V,) as `most_frequent` gives them.
    """
    width = int(contexts.max()) + 1
    before, behind, about = torch.zeros((3, len(contexts) * width), dtype=torch.float32, device="cpu")
    for chunk in chunks:
        pieces = torch.from_numpy(chunk.astype(np.int64))
        for distance in range(1, FAR + 1):
            left, right = pieces[:-distance], pieces[distance:]
            for pieces_here, others, side in ((right, left, before), (left, right, behind)):
                columns = contexts[others]
                places = (pieces_here * width + columns)[columns >= 0]
                ones = torch.ones_like(places, dtype=torch.float32)
                about.index_add_(0, places, ones)
                if distance <= NEAR:
                    side.index_add_(0, places, ones)
    return torch.stack([before, behind, about]).view(3, len(contexts), width)


def associate(table: Tensor) -> Tensor:
    """(V, C) counts -> (V, C) positive pointwise mutual information."""
    pieces, contexts = table.sum(1, keepdim=True), table.sum(0, keepdim=True) ** CONTEXT_EXPONENT
    expected = pieces * contexts / contexts.sum()
    return (table / expected.clamp_min(torch.finfo(table.dtype).tiny)).log_().clamp_min_(0.0)


def embed(tables: Tensor, *, width: int, seed: int) -> Tensor:
    """(N, V, C) counts -> (V, E) unit vectors relative to the mean, 0 for pieces without neighbours.

    The directions are rotated at random, so that all channels hold about the same: the first singular vectors hold the
    most, but Adam's steps have the same size in all channels. Channels beyond the number of directions are 0.

    width: E.
    seed: of the factorization and of the rotation.
    """
    together = torch.cat([associate(table) for table in tables], dim=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, singular, _ = torch.svd_lowrank(together, q=min(width + SPARE, *together.shape))
        turn: Tensor = torch.linalg.qr(torch.randn((width, width), dtype=torch.float32, device="cpu")).Q
    vectors = left[:, :width] * singular[:width].sqrt()
    known = together.any(dim=1)
    vectors = torch.where(known[:, None], vectors - vectors[known].mean(dim=0), 0.0)
    return torch.nn.functional.normalize(vectors, dim=1) @ turn[: vectors.shape[1]]
