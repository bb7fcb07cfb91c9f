"""Biases that begin with the frequencies of the pieces, worked by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts, start_from_frequencies
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import EncoderShape

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """1,280 pieces: "a" in the first half, "b" in the second, and one "c" at the end."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "b", "c"]) + "\n", encoding="utf8")
    texts = ["a " * 640, "b " * 639, "c"]
    documents = (Document(text=text, source="test.jsonl", line=1) for text in texts)
    build_store(documents, WordPiece.load(tmp_path), tmp_path / "store")
    return Store.open(tmp_path / "store")


def test_every_piece_of_a_small_store_is_counted(store: Store) -> None:
    assert piece_counts(store, 8).tolist() == [0, 0, 0, 0, 0, 640, 639, 1]


def test_of_a_large_store_all_parts_are_counted(store: Store) -> None:
    counts = piece_counts(store, 8, most=128)
    assert counts.sum() == 128
    assert counts[5:].tolist() == [64, 63, 1]


@pytest.mark.parametrize("most", [10_000, 128])
def test_held_out_documents_are_not_counted(store: Store, most: int) -> None:
    counts = piece_counts(store, 8, most=most, without=np.array([[0, 640], [1279, 1280]]))
    assert counts[[5, 7]].tolist() == [0, 0]
    assert counts[6] == min(639, most // 2 - 1)


def test_what_stands_between_held_out_documents_is_counted(store: Store) -> None:
    counts = piece_counts(store, 8, without=np.array([[10, 20], [600, 650], [1270, 1280]]))
    assert counts[5:].tolist() == [640 - 10 - 40, 639 - 10 - 9, 0]


def network() -> Electra:
    shape = EncoderShape(layers=1, width=8, feed_forward=8, heads=1, embedding=8, vocab=10, positions=8)
    return Electra(generator=shape, discriminator=shape)


def test_the_generator_begins_with_the_smoothed_frequencies() -> None:
    model, counts = network(), np.array([0, 0, 0, 0, 0, 6, 1, 1])
    before = model.masked_head.bias.detach().clone()
    start_from_frequencies(model, counts, mask_rate=0.15)
    bias = model.masked_head.bias.detach()
    expected = [0.5 / 12] * 5 + [6.5 / 12, 1.5 / 12, 1.5 / 12]
    torch.testing.assert_close(bias[:8].exp(), torch.tensor(expected))
    assert torch.equal(bias[8:], before[8:])  # rows of a padded vocabulary
    assert not torch.equal(bias[:8], before[:8])


@pytest.mark.parametrize(("mask_rate", "expected"), [(0.15, 0.1125), (0.25, 0.1875)])
def test_the_discriminator_begins_with_the_share_of_replaced_pieces(mask_rate: float, expected: float) -> None:
    model = network()
    start_from_frequencies(model, np.ones(10, dtype=np.int64), mask_rate=mask_rate)
    assert model.replaced_head.score.bias.sigmoid().item() == pytest.approx(expected)
