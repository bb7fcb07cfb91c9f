"""What documents hold of the transformer: bounded, right as long as they live, plain wherever else they go."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, DocBin
from spacy_transformers.data_classes import TransformerData

from spacy_electra.model.inference.backend import Backend
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.kept import KeptData
from spacy_electra.pipeline.transformer import shim_of_transformer

TEXTS = [f"Text {n}: the cat reads {'words ' * (n % 7)}" for n in range(120)]
KEEP_MB = 0.01  # about 10 documents


def kept_in(nlp):
    return shim_of_transformer(nlp.get_pipe("transformer").model).kept


def held(docs):
    """Bytes of the arrays that documents hold, and of those arrays whose parts they are."""
    arrays = [doc._.trf_data._output.last_hidden_state for doc in docs if doc._.trf_data.held_bytes]
    assert all(array.base is None or array.base.nbytes == array.nbytes for array in arrays)
    return sum(array.nbytes for array in arrays)


def data_of(doc):
    return doc._.trf_data.tensors[0]


def wanted(nlp, texts=TEXTS):
    return [data_of(nlp(text)) for text in texts]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_documents_that_live_hold_no_more_than_keep_mb(make_nlp):
    nlp = make_nlp(keep_mb=KEEP_MB)
    docs = list(nlp.pipe(TEXTS, batch_size=4))
    assert 0 < held(docs) == kept_in(nlp).size <= KEEP_MB * 1e6
    assert sum(doc._.trf_data.held_bytes > 0 for doc in docs) < len(docs) / 4


def test_all_vectors_are_right_though_most_were_dropped(make_nlp):
    nlp = make_nlp(keep_mb=KEEP_MB)
    docs = list(nlp.pipe(TEXTS, batch_size=4))
    assert_same(map(data_of, docs), wanted(make_nlp()))
    assert held(docs) <= KEEP_MB * 1e6


@pytest.mark.usefixtures("without_amx")
def test_vectors_that_are_computed_again_are_the_same_to_the_bit_in_kernels(make_nlp, wide_dir):
    nlp = make_nlp(keep_mb=0, precision="bf16", name=str(wide_dir))
    shim = shim_of_transformer(nlp.get_pipe("transformer").model)
    docs = list(nlp.pipe(TEXTS[:20], batch_size=20))
    before = [data_of(doc) for doc in docs]
    nlp("Another one.")
    assert held(docs) == 0
    for doc, vectors in zip(docs, before, strict=True):
        np.testing.assert_allclose(
            data_of(doc), vectors, atol=0 if shim.choice.prediction is Backend.NATIVE_INT16 else 0.02
        )


def test_keep_mb_of_nothing_leaves_the_last_batch(make_nlp):
    nlp = make_nlp(keep_mb=0)
    docs = list(nlp.pipe(TEXTS, batch_size=40))
    assert [doc._.trf_data.held_bytes > 0 for doc in docs] == [False] * 80 + [True] * 40


def test_one_document_does_not_hold_its_batch(nlp):
    docs = list(nlp.pipe(TEXTS))
    one = docs[5]
    assert kept_in(nlp).size == held(docs)
    del docs
    gc.collect()
    assert kept_in(nlp).size == held([one]) == data_of(one).nbytes


def test_vectors_of_other_weights_are_never_given(make_nlp, examples_of):
    nlp = make_nlp(keep_mb=0)
    old = nlp(TEXTS[6])
    kept = nlp(TEXTS[5])
    before = data_of(kept).copy()
    nlp.update(examples_of(nlp), sgd=adamw_v1(1e-2))
    np.testing.assert_array_equal(data_of(kept), before)
    with pytest.raises(ValueError, match=r"keep_mb = 0 .* have changed since\. Annotate the document"):
        data_of(old)
    old.copy()  # needs no vectors
    assert repr(old._.trf_data).startswith("<KeptData of ")
    np.testing.assert_allclose(data_of(nlp(old)), data_of(nlp(TEXTS[6])), atol=1e-6)


def test_listeners_that_find_dropped_vectors_annotate_the_same_and_it_is_said_once(make_nlp, examples_of, caplog):
    small, large = make_nlp(keep_mb=0), make_nlp()
    large.update(examples_of(large), sgd=adamw_v1(1e-2))
    small.from_bytes(large.to_bytes())
    small.get_pipe("transformer").cfg["max_batch_items"] = 40  # several calls for one batch of documents
    tags = [[[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)] for nlp in (small, large)]
    assert tags[0] == tags[1]
    assert [record.message for record in caplog.records if "keep_mb = 0 has no room" in record.message] != []
    assert len(caplog.records) == 1


def test_nothing_is_said_of_documents_that_were_read_before(make_nlp, caplog):
    nlp = make_nlp(keep_mb=0)
    docs = list(nlp.pipe(TEXTS, batch_size=10))
    assert_same(map(data_of, docs), wanted(nlp))
    assert caplog.records == []


@pytest.mark.parametrize("keep_mb", [0, 100])
def test_what_leaves_the_process_is_plain_and_complete(make_nlp, keep_mb):
    nlp = make_nlp(keep_mb=keep_mb)
    docs = list(nlp.pipe(TEXTS[:8], batch_size=2))
    expected = wanted(nlp, TEXTS[:8])
    gone = {
        "bytes": [Doc(nlp.vocab).from_bytes(doc.to_bytes()) for doc in docs],
        "DocBin": list(DocBin(docs=docs, store_user_data=True).get_docs(nlp.vocab)),
        "pickle": [pickle.loads(pickle.dumps(doc)) for doc in docs],
        "processes": list(nlp.pipe(TEXTS[:8], n_process=2, batch_size=2)),
    }
    for others in gone.values():
        assert {type(doc._.trf_data) for doc in others} == {TransformerData}
        assert_same(map(data_of, others), expected)


def test_copies_are_bounded_as_well(make_nlp):
    nlp = make_nlp(keep_mb=KEEP_MB)
    docs = list(nlp.pipe(TEXTS[:30]))
    copies = [doc.copy() for doc in docs]
    assert {type(doc._.trf_data) for doc in copies} == {KeptData}
    assert held(docs) + held(copies) <= KEEP_MB * 1e6
    assert_same(map(data_of, copies), wanted(nlp, TEXTS[:30]))
    assert type(copy.deepcopy(docs[0])._.trf_data) is TransformerData  # spaCy pickles for that


def test_what_somebody_else_wrote_into_it_is_never_dropped(make_nlp):
    nlp = make_nlp(keep_mb=0)
    doc = nlp(TEXTS[0])
    doc._.trf_data.from_dict(TransformerData.zeros(3, 5).to_dict())
    nlp(TEXTS[1])
    assert data_of(doc).shape == data_of(doc.copy()).shape == (1, 3, 5)


def test_two_threads_read_and_drop_at_once(make_nlp):
    nlp = make_nlp(keep_mb=KEEP_MB)
    expected = wanted(nlp)
    docs = [None] * len(TEXTS)

    def annotate(number):
        docs[number] = nlp(TEXTS[number])
        return [data_of(docs[n]) for n in range(0, number, 9) if docs[n] is not None][-3:] and data_of(docs[number])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(annotate, range(len(TEXTS))))
    assert held(docs) <= kept_in(nlp).size <= KEEP_MB * 1e6
    assert_same(map(data_of, docs), expected)


@pytest.fixture(params=["as it is", "loaded", "sourced", "cached"])
def pipeline(request, make_nlp, tmp_path):
    nlp = make_nlp(keep_mb=KEEP_MB, **({"cache_mb": 0.005} if request.param == "cached" else {}))
    if request.param == "loaded":
        nlp.to_disk(tmp_path)
        nlp = spacy.load(tmp_path)
    if request.param == "sourced":
        other = spacy.blank("xx")
        other.add_pipe("transformer", source=nlp)
        other.add_pipe("tagger", source=nlp)
        nlp = other
    return nlp


def test_every_way_to_a_pipeline_leads_to_the_same_bound(pipeline, make_nlp):
    docs = list(pipeline.pipe(TEXTS, batch_size=4))
    assert held(docs) <= KEEP_MB * 1e6
    assert_same(map(data_of, docs), wanted(make_nlp()))
    with pipeline.select_pipes(disable="tagger"):
        docs += pipeline.pipe(TEXTS, batch_size=4)
    assert held(docs) <= KEEP_MB * 1e6
    assert_same(map(data_of, docs[len(TEXTS) :]), wanted(make_nlp()))


def test_a_private_encoder_annotates_as_the_shared_one(make_nlp, examples_of):
    nlp = make_nlp(keep_mb=KEEP_MB)
    nlp.update(examples_of(nlp), sgd=adamw_v1(1e-2))
    expected = [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)]
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    docs = list(nlp.pipe(TEXTS, batch_size=4))
    assert [[t.tag_ for t in doc] for doc in docs] == expected
    assert held(docs) <= KEEP_MB * 1e6
    with nlp.select_pipes(disable="transformer"):
        assert [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)] == expected


def test_a_copy_counts_for_itself(make_nlp):
    nlp = make_nlp(keep_mb=KEEP_MB)
    other = nlp.get_pipe("transformer").model.copy()
    assert shim_of_transformer(other).kept is not kept_in(nlp)
    assert shim_of_transformer(other).kept.megabytes == KEEP_MB


def test_no_room_below_nothing(make_nlp):
    with pytest.raises(ValueError, match="keep_mb must be 0, for the last batch's vectors alone, or more, but got -1"):
        make_nlp(keep_mb=-1)
