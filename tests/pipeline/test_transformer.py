import warnings
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.cli._util import show_validation_error
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from spacy_electra.model.inference.backend import Backend, Machine
from spacy_electra.model.network.encoder import Block
from spacy_electra.pipeline.architectures import build_electra_transformer
from spacy_electra.pipeline.transformer import shim_of_transformer

TEXTS = [
    "The encoder reads pieces, not words.",
    "Unbelievably, the cat didn't sit: it's a well-known problem!",
    "He paid $3.50 for (two) apples.",
    "mat",
]
WORDS = ["The", "en", "coder", "re", "ads", "pieces", ",", "not", "words."]
SPACES = [True, False, True, False, True, False, True, True, False]


def vectors(doc: Doc) -> np.ndarray:
    """(tokens, width) as a listener with mean pooling sees the document."""
    data = doc._.trf_data
    source, width = data.tensors[0].reshape(-1, data.width), data.width
    lengths = data.align.lengths
    parts = np.split(source[data.align.dataXd], np.cumsum(lengths)[:-1])
    return np.stack([part.mean(axis=0) if len(part) else np.zeros(width, dtype="f") for part in parts])


@pytest.fixture(scope="module")
def stock(model_dir):
    """spacy-transformers' own component over the same directory, one window a document."""
    nlp = spacy.blank("xx")
    spans = {"@span_getters": "spacy-transformers.doc_spans.v1"}
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": str(model_dir), "get_spans": spans}
    component = nlp.add_pipe("transformer", config={"model": model})
    component.model.initialize()
    return nlp


@pytest.fixture
def trf(make_nlp):
    nlp = make_nlp()
    nlp.remove_pipe("tagger")
    return nlp


def docs_of(nlp):
    raw = [nlp.make_doc(text) for text in TEXTS]
    return [*raw, Doc(nlp.vocab, words=WORDS, spaces=SPACES)]


def test_token_vectors_are_those_of_spacy_transformers(trf, stock):
    ours, theirs = list(trf.pipe(docs_of(trf))), list(stock.pipe(docs_of(stock)))
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(vectors(our), vectors(their), atol=1e-5)


def test_listeners_pool_to_the_same_arrays(trf, stock):
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "pooling": {"@layers": "reduce_mean.v1"},
        "grad_factor": 1.0,
    }
    answers = []
    for nlp in (trf, stock):
        model = spacy.registry.resolve({"model": listener})["model"]
        model.get_ref("listener").set_dim("nO", 32)
        answers.append(model.predict(list(nlp.pipe(docs_of(nlp)))))
    for our, their in zip(*answers, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-5)


def test_a_document_has_one_vector_for_each_piece(trf):
    data = trf("The unseen cat.")._.trf_data
    assert data.tensors[0].shape == (1, len(data.wordpieces.strings[0]), 32)
    assert data.wordpieces.strings[0][0] == "the"
    assert data.wordpieces.input_ids.shape == data.wordpieces.attention_mask.shape == (1, data.wordpieces.lengths[0])


def test_raw_and_gold_tokens_have_the_same_pieces(trf):
    text = "The encoder reads pieces, not words."
    raw, gold = trf(text), trf(Doc(trf.vocab, words=WORDS, spaces=SPACES))
    alone = trf(Doc(trf.vocab, words=list(text), spaces=[False] * len(text)))
    assert gold.text == alone.text == text
    assert (
        raw._.trf_data.wordpieces.strings == gold._.trf_data.wordpieces.strings == alone._.trf_data.wordpieces.strings
    )
    np.testing.assert_allclose(raw._.trf_data.tensors[0], gold._.trf_data.tensors[0], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "cat",
        "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 !",
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 cat",
        "the\u200bcat \u200b sat \u00ad on",
        "\u200b\u200d \u2060",
        "\ufffd \u0000 cat",
        "qqqq zzzz 99999 xxxx",
        "  the \n\n\t cat  ",
        "e\u0301te\u0301 \u1112\u1161\u11ab \u4e2d\u6587",
        "x" * 300,
    ],
)
def test_every_token_that_is_no_space_has_pieces(trf, text):
    doc = trf(text)
    assert [n > 0 for n in doc._.trf_data.align.lengths] == [not token.is_space for token in doc]
    assert np.isfinite(vectors(doc)).all()


def test_words_of_unknown_letters_have_vectors_that_differ_by_their_place(trf):
    doc = trf("\u03c8\u03c8 \u03c9 \u03c8")
    assert doc._.trf_data.wordpieces.strings[0] == ["[UNK]"] * 3
    answer = vectors(doc)
    assert np.abs(answer[0] - answer[1]).max() > 0.1


def test_a_token_of_zero_width_has_the_vector_of_its_neighbour(trf):
    doc = trf(Doc(trf.vocab, words=["cat", "\u200b", "mat"], spaces=[True, True, False]))
    answer = vectors(doc)
    last_of_cat = doc._.trf_data.align.dataXd[doc._.trf_data.align.lengths[0] - 1]
    np.testing.assert_array_equal(answer[1], doc._.trf_data.tensors[0][0, last_of_cat])


def test_empty_and_blank_documents_pass_between_others(make_nlp):
    nlp = make_nlp()
    together = list(nlp.pipe(["the cat", "", "  \n ", "mat"]))
    assert [len(doc) for doc in together] == [2, 0, 1, 1]
    assert together[1]._.trf_data.tensors == ()
    assert vectors(together[2]).tolist() == [[0.0] * 32]
    assert [t.tag_ for t in together[0]] == [t.tag_ for t in nlp("the cat")]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_a_document_without_words_alone(nlp, text):
    assert nlp(text).text == text


def test_a_long_document_loses_no_token(trf):
    count = 20_000
    doc = trf(Doc(trf.vocab, words=["cat", "mat", "unseen", "reads"] * (count // 4)))
    assert len(doc) == count
    assert (doc._.trf_data.align.lengths > 0).all()
    assert np.isfinite(doc._.trf_data.tensors[0]).all()
    assert len(set(doc._.trf_data.align.dataXd.tolist())) == doc._.trf_data.tensors[0].shape[1]


def test_long_documents_see_what_their_window_shows(make_nlp):
    """In windows of 12 tokens, a piece's vector comes from the ten pieces of its window alone."""
    nlp = make_nlp(window=12, stride=5)
    nlp.remove_pipe("tagger")
    doc = nlp(Doc(nlp.vocab, words=["cat", "mat", "the"] * 5))
    shim = shim_of_transformer(nlp.get_pipe("transformer").model)
    ids = doc._.trf_data.wordpieces.input_ids[0]
    special = shim.tokenizer.special
    rows = torch.tensor([[special.cls, *ids[s : s + 10], special.sep] for s in (0, len(ids) - 10)])
    with torch.no_grad():
        first, last = shim.module(rows)[:, 1:-1].numpy()
    np.testing.assert_allclose(doc._.trf_data.tensors[0][0, :5], first[:5], atol=1e-5)
    np.testing.assert_allclose(doc._.trf_data.tensors[0][0, -5:], last[-5:], atol=1e-5)


def test_vectors_depend_on_neither_batch_nor_order(make_nlp):
    nlp = make_nlp(max_batch_tokens=64, window=16)
    texts = [*TEXTS, "the cat sat on the mat " * 8, "", "cat"]
    alone = [nlp(text) for text in texts]
    together = list(nlp.pipe(texts, batch_size=50))
    backwards = list(nlp.pipe(texts[::-1], batch_size=3))[::-1]
    for one, two, three in zip(alone, together, backwards, strict=True):
        assert [t.tag_ for t in one] == [t.tag_ for t in two] == [t.tag_ for t in three]
        if len(one):
            np.testing.assert_allclose(vectors(one), vectors(two), atol=1e-5)
            np.testing.assert_allclose(vectors(one), vectors(three), atol=1e-5)


def test_bf16_needs_no_fused_products(make_nlp, assume):
    """A processor without AVX512 runs torch's own layers."""
    assume(Machine("cpu"))
    nlp = make_nlp(precision="bf16")
    assert vectors(nlp(TEXTS[0])).any()
    shim = shim_of_transformer(nlp.get_pipe("transformer").model)
    assert shim.choice.prediction is Backend.EAGER_BF16
    assert {type(block) for block in shim.predictor().encoder.body.blocks} == {Block}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_close(make_nlp, precision):
    full, lower = make_nlp(precision="fp32"), make_nlp(precision=precision)
    for text in TEXTS:
        a, b = vectors(full(text)), vectors(lower(text))
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert b.dtype == np.float32
        assert cosine.min() > 0.998
        assert (a != b).any()


def test_trf_data_survives_bytes_and_docbin(trf):
    doc = trf(TEXTS[1])
    empty = trf("")
    back = Doc(trf.vocab).from_bytes(doc.to_bytes())
    (binned, blank) = DocBin(docs=[doc, empty], store_user_data=True).get_docs(Vocab())
    for other in (back, binned):
        np.testing.assert_array_equal(other._.trf_data.tensors[0], doc._.trf_data.tensors[0])
        np.testing.assert_array_equal(other._.trf_data.align.dataXd, doc._.trf_data.align.dataXd)
        np.testing.assert_array_equal(other._.trf_data.align.lengths, doc._.trf_data.align.lengths)
        assert list(other._.trf_data.wordpieces.strings[0]) == doc._.trf_data.wordpieces.strings[0]
    assert blank._.trf_data.tensors == ()


def test_a_directory_that_is_no_electra_is_refused(make_nlp, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ValueError, match="model_type is 'roberta'"):
        make_nlp(name=str(tmp_path))
    with pytest.raises(ValueError, match=r"has no config\.json"):
        make_nlp(name=str(tmp_path.parent))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "/does/not/exist"}, "there is no directory '/does/not/exist'"),
        ({"window": 999}, "window must not exceed the model's"),
    ],
)
def test_spacys_commands_show_what_is_wrong_with_the_weights_without_a_traceback(
    make_nlp, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], told: str
):
    with pytest.raises(SystemExit) as ended, show_validation_error():
        make_nlp(**settings)
    assert ended.value.code == 1
    assert told in capsys.readouterr().out


def test_no_name_and_no_weights_is_refused(make_nlp):
    with pytest.raises(ValueError, match="name = null"):
        make_nlp(name=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp8"}, "one of auto, fp32, bf16, fp16, int8, but got 'fp8'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"max_batch_tokens": 0}, "max_batch_tokens must be above 0"),
        ({"window": 41}, "window must not exceed the model's 40 positions"),
    ],
)
def test_impossible_settings_are_refused(make_nlp, settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_a_model_without_weights_says_so():
    model = build_electra_transformer(name="somewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="no weights yet"):
            model.predict([Doc(Vocab(), words=["cat"])])
