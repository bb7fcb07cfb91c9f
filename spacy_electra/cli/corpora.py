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
    """The store of each corpus, by its name.

    Raises FileNotFoundError or ValueError where one is missing, does not fit the tokenizer, or holds the text of train,
    of which documents may be held out, or of dev.
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
    """Rows of train and of the whole of each store by their weights; train itself where there are no others."""
    if not stores:
        return train
    others = [Packing(store, all_ranges(store), window=train.window, seed=train.seed) for store in stores.values()]
    return Mixture([train, *others], weights=[TRAIN_WEIGHT, *(corpora[name].weight for name in stores)])


def mixed_counts(counts: np.ndarray, stores: Mapping[str, Store], corpora: Mapping[str, Corpus]) -> np.ndarray:
    """How often each piece occurs (V,) in train and the stores together, each by its weight.

    counts: (V,) of train, which are given back where there are no stores.
    """
    answer = counts
    for name, store in stores.items():
        others = piece_counts(store, len(counts))
        answer = answer + others * (corpora[name].weight / TRAIN_WEIGHT * counts.sum() / max(others.sum(), 1))
    return answer


def shares(corpora: Mapping[str, Corpus]) -> dict[str, float]:
    """Which share of the rows comes from train, and from each corpus."""
    weights = {"train": TRAIN_WEIGHT} | {name: corpus.weight for name, corpus in corpora.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def shares_in_words(corpora: Mapping[str, Corpus]) -> str:
    """For example "train 66.7%, general 33.3%"."""
    return ", ".join(f"{name} {share:.1%}" for name, share in shares(corpora).items())


def all_ranges(store: Store) -> np.ndarray:
    """(N, 2) piece ranges of all documents of a store."""
    return np.stack([store.starts[:-1], store.starts[1:]], axis=1)
