"""doc.vector, span.vector, token.vector, similarity: the means of the transformer's vectors, or plainly nothing."""

import pickle
import warnings

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_electra.pipeline.vectors import create_vectors

spacy.registry.annotation_setters.register("spacy-electra.vectors.v1", func=create_vectors)
TEXT, OTHER = "Unreadable,  the cat reads.", "He paid for apples."


@pytest.fixture(params=[False, True], ids=["hooks", "tensor"])
def store(request):
    return request.param


@pytest.fixture
def make_vectors(make_nlp):
    def make(*, store=False, **settings):
        nlp = make_nlp(**settings)
        nlp.get_pipe("transformer").set_extra_annotations = create_vectors(store=store)
        return nlp

    return make


def means(doc):
    """One token after another, from the pieces that its alignment names."""
    data, begin, answer = doc._.trf_data, 0, []
    for length in data.align.lengths:
        pieces = data.align.dataXd[begin : begin + length]
        vectors = data.tensors[0][0][pieces]
        answer.append(vectors.mean(axis=0) if length else np.zeros(vectors.shape[1]))
        begin += length
    return np.array(answer)


def test_vectors_are_means_of_pieces_and_of_tokens(make_vectors, store):
    doc = make_vectors(store=store)(TEXT)
    expected = means(doc)
    assert max(doc._.trf_data.align.lengths) > 1
    np.testing.assert_allclose([token.vector for token in doc], expected, atol=1e-6)
    np.testing.assert_allclose(doc[1:4].vector, expected[1:4].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(doc.vector, expected.mean(axis=0), atol=1e-6)
    assert doc.vector_norm == pytest.approx(np.linalg.norm(expected.mean(axis=0)), rel=1e-5)
    assert doc[1:4].vector_norm == pytest.approx(np.linalg.norm(expected[1:4].mean(axis=0)), rel=1e-5)
    assert doc.has_vector
    assert doc[1:4].has_vector
    assert doc[0].has_vector


def test_similarity_is_a_cosine_and_warns_of_nothing(make_vectors):
    nlp = make_vectors()
    one, other = nlp(TEXT), nlp(OTHER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [one.similarity(other), one[:3].similarity(other), one[0].similarity(other[1:3]), one.similarity(one)]
    a, b = one.vector, other.vector
    assert found[0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)
    assert found[3] == pytest.approx(1, rel=1e-5)
    assert len(set(found)) == 4


def test_white_space_has_no_vector_but_zeros(make_vectors):
    doc = make_vectors()("cat  reads")
    assert [token.has_vector for token in doc] == [True, False, True]
    assert doc[1].vector.tolist() == [0] * 32
    assert not doc[1:2].has_vector
    assert doc[1:1].vector.tolist() == [0] * 32


def test_a_document_of_white_space_has_no_vector(make_vectors, store):
    doc = make_vectors(store=store)("  ")
    assert not doc.vector.any()
    assert not doc[0].vector.any()


def test_a_document_without_tokens_has_no_vector(make_vectors, store):
    nlp = make_vectors(store=store)
    empty = nlp("")
    assert not empty.has_vector
    assert empty.vector.size == 0
    with warnings.catch_warnings(record=True) as said:
        assert nlp(TEXT).similarity(empty) == 0
    assert "W008" in str(said[-1].message)


def test_vectors_come_back_after_they_were_dropped_and_hold_nothing(make_vectors):
    nlp = make_vectors(keep_mb=0)
    doc = nlp(TEXT)
    before = doc.vector.copy()
    nlp(OTHER)
    assert (doc._.trf_data.held_bytes, doc.tensor.size) == (0, 0)
    np.testing.assert_allclose(doc.vector, before, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*W109")
def test_what_came_from_bytes_says_that_it_has_no_vectors_unless_they_are_stored(make_vectors, store):
    nlp = make_vectors(store=store)
    expected = nlp(TEXT).vector
    doc = Doc(nlp.vocab).from_bytes(nlp(TEXT).to_bytes())
    assert doc.has_vector == doc[0].has_vector == doc[:2].has_vector == store
    if store:
        np.testing.assert_allclose(doc.vector, expected, atol=1e-6)
    else:
        assert doc.vector.size == 0
        with pytest.warns(UserWarning, match="W008"):
            assert nlp(OTHER).similarity(doc) == 0


def test_what_came_from_workers_has_its_vectors(make_vectors, store):
    nlp = make_vectors(store=store)
    (doc,) = nlp.pipe([TEXT], n_process=2)
    np.testing.assert_allclose(doc.vector, nlp(TEXT).vector, atol=1e-6)
    np.testing.assert_allclose(doc[:2].vector, nlp(TEXT)[:2].vector, atol=1e-6)
    assert doc.similarity(nlp(TEXT)) == pytest.approx(1, abs=1e-6)


def test_pickles_and_copies_keep_their_vectors(make_vectors, store):
    doc = make_vectors(store=store)(TEXT)
    for other in (pickle.loads(pickle.dumps(doc)), doc.copy()):
        np.testing.assert_allclose(other.vector, doc.vector, atol=1e-6)


def test_bytes_without_hooks_are_said_by_spacy(make_vectors):
    with pytest.warns(UserWarning, match="W109"):
        make_vectors()(TEXT).to_bytes()


def test_vectors_go_where_trf_data_goes(make_vectors):
    doc = make_vectors()(TEXT)
    doc._.trf_data = None
    assert not doc.has_vector
    assert not doc[0].has_vector
    assert doc.vector.size == 0


def test_merged_tokens_take_no_vectors_of_others(make_vectors):
    doc = make_vectors()(TEXT)
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[:2])
    assert not doc.has_vector
    assert not doc[3].has_vector


def test_static_vectors_stay_those_of_the_vocabulary(make_vectors):
    nlp = make_vectors()
    nlp.vocab.set_vector("cat", np.ones(4, dtype="f"))
    doc = nlp("cat reads")
    assert doc[0].vector.tolist() == [1] * 4
    assert doc.vector.tolist() == [0.5] * 4


def test_hooks_that_are_there_stay(make_vectors):
    nlp = make_vectors()
    doc = nlp.make_doc(TEXT)
    doc.user_hooks["vector"] = lambda doc: "mine"
    assert nlp(doc).vector == "mine"
    assert nlp(TEXT).vector.shape == (32,)


def test_a_docbin_needs_no_hooks(make_vectors, store):
    nlp = make_vectors(store=store)
    data = DocBin(docs=[nlp(TEXT)], store_user_data=True).to_bytes()
    (doc,) = DocBin().from_bytes(data).get_docs(nlp.vocab)
    np.testing.assert_allclose(doc._.trf_data.tensors[0], nlp(TEXT)._.trf_data.tensors[0], atol=1e-6)
