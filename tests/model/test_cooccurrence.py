"""Word embeddings from neighbours, worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts
from spacy_electra.model.init.embeddings import (
    associate,
    count_neighbours,
    embed,
    most_frequent,
    start_from_neighbours,
)
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import EncoderShape

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "a", "cat", "dog", "ran", "sat", "unseen"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Cats and dogs do the same things with the same articles."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf8")
    texts = [f"{article} {animal} {verb}" for article in WORDS[:2] for animal in WORDS[2:4] for verb in WORDS[4:6]]
    documents = (Document(text=" ".join(texts), source="test.jsonl", line=1) for _ in range(50))
    build_store(documents, WordPiece.load(tmp_path), tmp_path / "store")
    return Store.open(tmp_path / "store")


def network(vocab: int = 16, embedding: int = 8) -> Electra:
    shape = EncoderShape(layers=1, width=8, feed_forward=8, heads=1, embedding=embedding, vocab=vocab, positions=8)
    model = Electra(generator=None, discriminator=shape)
    initialize(model, kind="corpus", seed=0)
    return model


def test_the_most_frequent_pieces_are_contexts_and_the_first_of_equals() -> None:
    assert most_frequent(np.array([0, 3, 9, 3]), most=2).tolist() == [-1, 1, 0, -1]


def test_a_piece_that_never_occurs_is_no_context() -> None:
    assert most_frequent(np.array([0, 3, 9]), most=3).tolist() == [-1, 1, 0]


def test_near_neighbours_are_counted_by_side_and_far_ones_together() -> None:
    contexts = torch.tensor([0, -1, 1])
    before, behind, about = count_neighbours([np.array([0, 1, 1, 2])], contexts)
    assert before.tolist() == [[0, 0], [2, 0], [0, 0]]  # 0 stands one and two places before a 1, three before the 2
    assert behind.tolist() == [[0, 0], [0, 2], [0, 0]]
    assert about.tolist() == [[0, 1], [2, 2], [1, 0]]


def test_pieces_more_than_five_places_away_are_no_neighbours() -> None:
    assert count_neighbours([np.array([0, 1, 1, 1, 1, 1, 0])], torch.tensor([0, -1]))[2][0].sum() == 0


def test_stretches_add_up_and_do_not_touch() -> None:
    contexts, chunk = torch.tensor([0, 1]), np.array([0, 1])
    once, twice = count_neighbours([chunk], contexts), count_neighbours([chunk, chunk], contexts)
    assert torch.equal(twice, 2 * once)


def test_association_is_the_positive_logarithm_of_how_much_oftener_than_by_chance() -> None:
    table = torch.tensor([[6.0, 0.0], [2.0, 8.0]])
    share = 8**0.75 / (2 * 8**0.75)  # of each context, smoothed
    expected = [[math.log(6 / (6 * share)), 0.0], [0.0, math.log(8 / (10 * share))]]
    torch.testing.assert_close(associate(table), torch.tensor(expected))


def test_pieces_without_neighbours_are_no_nan() -> None:
    assert associate(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).isfinite().all()


def test_vectors_have_the_length_one_and_those_without_neighbours_zero() -> None:
    tables = torch.rand(3, 12, 9, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    tables[:, 4] = 0
    lengths = embed(tables, width=4, seed=0).norm(dim=1)
    expected = torch.ones(12)
    expected[4] = 0
    torch.testing.assert_close(lengths, expected)


def test_all_channels_hold_about_the_same() -> None:
    tables = torch.randint(0, 9, (3, 300, 40), generator=torch.Generator().manual_seed(0)).float()
    spread = embed(tables, width=16, seed=0).square().mean(dim=0)
    assert spread.max() / spread.min() < 4


def test_the_same_seed_gives_the_same_vectors_and_leaves_the_global_generator_alone() -> None:
    tables = torch.rand(3, 12, 9, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first, second, other = (embed(tables, width=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_words_with_the_same_neighbours_begin_alike(store: Store) -> None:
    model = network()
    start_from_neighbours(model, store, piece_counts(store, 12), seed=0)
    unit = torch.nn.functional.normalize(model.embeddings.word.weight.detach(), dim=1)
    id_of = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    alike = unit @ unit.T
    assert alike[id_of["cat"], id_of["dog"]] > 0.9
    assert alike[id_of["cat"], id_of["ran"]] < 0.5
    assert alike[id_of["cat"], id_of["the"]] < 0.5


def test_unseen_pieces_and_those_that_only_fill_the_vocabulary_stay_as_they_are(store: Store) -> None:
    model = network()
    before = model.embeddings.word.weight.detach().clone()
    start_from_neighbours(model, store, piece_counts(store, 12), seed=0)
    stay = [0, 1, 2, 3, 4, 11, 12, 13, 14, 15]
    assert torch.equal(model.embeddings.word.weight[stay], before[stay])
    assert not torch.isclose(model.embeddings.word.weight[5:11], before[5:11]).any()


def test_the_vectors_are_as_long_as_random_ones(store: Store) -> None:
    wide = network(vocab=16, embedding=64)
    start_from_neighbours(wide, store, piece_counts(store, 12), seed=0)
    lengths = wide.embeddings.word.weight.detach().norm(dim=1)
    torch.testing.assert_close(lengths[5:11], torch.full((6,), 0.1 * 8.0))


def test_a_vocabulary_smaller_than_the_embeddings_is_no_obstacle(store: Store) -> None:
    model = network(embedding=64)
    start_from_neighbours(model, store, piece_counts(store, 12), seed=0)
    assert model.embeddings.word.weight.isfinite().all()


def test_words_of_further_stores_begin_with_their_neighbours_as_well(store: Store, tmp_path: Path) -> None:
    documents = (Document(text="the unseen ran a unseen sat", source="test.jsonl", line=1) for _ in range(50))
    build_store(documents, WordPiece.load(tmp_path), tmp_path / "other")
    other, model = Store.open(tmp_path / "other"), network()
    before = model.embeddings.word.weight.detach().clone()
    counts = piece_counts(store, 12) + piece_counts(other, 12)
    start_from_neighbours(model, store, counts, seed=0, others=[other])
    assert not torch.isclose(model.embeddings.word.weight[11], before[11]).any()
