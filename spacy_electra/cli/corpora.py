"""Stores that [corpora] mixes into the training text: open, count, pack and describe them."""

from collections.abc import Mapping

import numpy as np

from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts
from spacy_electra.training.schema import Corpus

TRAIN_WEIGHT = 1.0


def open_corpora(
    corpora: Mapping[str, Corpus], tokenizer: WordPiece, *, train: Store, dev: Store | None
) -> dict[str, Store]:
    """Open the store of each corpus; returns them by name.

    Raises FileNotFoundError or ValueError if one is missing, does not fit the tokenizer, or holds the text of dev or of
    train, of which documents may be held out.
    """
    stores = {name: Store.open(corpus.path, tokenizer=tokenizer) for name, corpus in corpora.items()}
    for name, store in stores.items():
        for key, known in (("paths.train", train), ("paths.dev", dev)):
            if known is not None and known.fingerprint == store.fingerprint:
                raise ValueError(
                    f"corpora.{name}.path = {store.directory} holds the same text as {key} = {known.directory}: "
                    f"documents that are scored on would be trained on. Name a store of other text, or remove "
                    f"[corpora.{name}]."
                )
    return stores


def mixed(train: Packing, stores: Mapping[str, Store], corpora: Mapping[str, Corpus]) -> Packing | Mixture:
    """Mix the rows of train with those of all stores by their weights; returns train if there are no stores."""
    if not stores:
        return train
    others = [Packing(store, all_ranges(store), window=train.window, seed=train.seed) for store in stores.values()]
    return Mixture([train, *others], weights=[TRAIN_WEIGHT, *(corpora[name].weight for name in stores)])


def mixed_counts(counts: np.ndarray, stores: Mapping[str, Store], corpora: Mapping[str, Corpus]) -> np.ndarray:
    """(V,) occurrences of each piece in train and the stores together, by their weights.

    counts: (V,) of train; returned unchanged if there are no stores.
    """
    answer = counts
    for name, store in stores.items():
        others = piece_counts(store, len(counts))
        answer = answer + others * (corpora[name].weight / TRAIN_WEIGHT * counts.sum() / max(others.sum(), 1))
    return answer


def shares(corpora: Mapping[str, Corpus]) -> dict[str, float]:
    """The share of the rows that comes from train and from each corpus, by name."""
    weights = {"train": TRAIN_WEIGHT} | {name: corpus.weight for name, corpus in corpora.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def shares_in_words(corpora: Mapping[str, Corpus]) -> str:
    """Describe the shares in words, such as "train 66.7%, general 33.3%"."""
    return ", ".join(f"{name} {share:.1%}" for name, share in shares(corpora).items())


def all_ranges(store: Store) -> np.ndarray:
    """(N, 2) piece ranges of all documents of a store."""
    return np.stack([store.starts[:-1], store.starts[1:]], axis=1)
