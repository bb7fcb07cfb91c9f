"""Vectors that are kept for documents seen before."""

import numpy as np
import pytest
import torch

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.cache import VectorCache
from spacy_electra.pipeline.transformer import shim_of_transformer

A, B, C = [1, 2, 3], [4], [5, 6]
FOUR_PIECES = 4 * (8 + 2 * 4) / 1e6  # MB: an id and two float32 a piece


class Encoder:
    """Gives each piece its number twice, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, ids, counts):
        self.asked.append([part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])])
        return torch.from_numpy(ids).float()[:, None].expand(-1, 2)


def look_up(cache, documents, encode, weights="first"):
    ids = np.array([piece for document in documents for piece in document], dtype=np.int64)
    counts = np.array([len(document) for document in documents])
    vectors = cache.look_up(ids, counts, weights=weights, encode=encode)
    assert vectors[:, 0].tolist() == ids.tolist()
    return vectors


def test_only_new_documents_are_encoded():
    cache, encode = VectorCache(1), Encoder()
    look_up(cache, [A, B], encode)
    look_up(cache, [C, B, A], encode)
    look_up(cache, [A, C], encode)
    assert encode.asked == [[A, B], [C]]


def test_a_document_that_comes_twice_is_encoded_once():
    cache, encode = VectorCache(1), Encoder()
    look_up(cache, [A, B, A], encode)
    assert encode.asked == [[A, B]]


def test_other_weights_make_all_documents_new():
    cache, encode = VectorCache(1), Encoder()
    look_up(cache, [A], encode)
    look_up(cache, [A], encode, weights="second")
    assert encode.asked == [[A], [A]]


def test_those_that_were_not_used_for_longest_make_room():
    cache, encode = VectorCache(FOUR_PIECES), Encoder()
    look_up(cache, [A], encode)
    look_up(cache, [B], encode)
    look_up(cache, [A], encode)
    look_up(cache, [[7]], encode)  # B goes
    look_up(cache, [A], encode)
    look_up(cache, [B], encode)
    assert encode.asked == [[A], [B], [[7]], [B]]


def test_no_documents_have_no_vectors():
    assert look_up(VectorCache(1), [], Encoder()).shape == (0, 2)


def vectors(nlp, texts):
    return np.asarray(nlp.get_pipe("transformer").predict([nlp.make_doc(text) for text in texts]).vectors)


TEXTS = ["The cat reads words.", "", "Unbelievably, apples sat on the encoder!", "The cat reads words."]


def test_a_pipeline_with_a_cache_gives_the_same_vectors(make_nlp):
    plain, cached = make_nlp(), make_nlp(cache_mb=1)
    for texts in (TEXTS, TEXTS[::-1], TEXTS[:1]):
        np.testing.assert_allclose(vectors(cached, texts), vectors(plain, texts), atol=1e-5)


def test_a_pipeline_that_learns_forgets_its_vectors(make_nlp, examples_of):
    nlp = make_nlp(cache_mb=1)
    before = vectors(nlp, TEXTS)
    nlp.update(examples_of(nlp), sgd=adamw_v1(1e-2))
    after = vectors(nlp, TEXTS)
    assert not np.allclose(before, after, atol=1e-4)
    fresh = make_nlp().from_bytes(nlp.to_bytes())
    np.testing.assert_allclose(after, vectors(fresh, TEXTS), atol=1e-5)


def test_a_copy_has_a_cache_of_its_own(make_nlp):
    nlp = make_nlp(cache_mb=1)
    vectors(nlp, TEXTS)
    model = nlp.get_pipe("transformer").model
    assert shim_of_transformer(model.copy()).cache is not shim_of_transformer(model).cache
    assert shim_of_transformer(model.copy()).cache.room == 1_000_000


def test_a_negative_cache_is_refused(make_nlp):
    with pytest.raises(ValueError, match=r"cache_mb must be 0, for no cache, or more, but got -1"):
        make_nlp(cache_mb=-1)
