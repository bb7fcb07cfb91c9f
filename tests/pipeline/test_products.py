"""torch's products in the heads of a pipeline."""

import warnings
from itertools import product

import numpy as np
import pytest
import spacy
from spacy.language import Language
from thinc.api import NumpyOps

from spacy_electra.pipeline.products import TorchProductsOps, create_torch_products, multiply_in_torch

TEXTS = ["The cat sat on two apples, well.", "Unbelievably!", "", "He reads pieces in New York: it's a mat."] * 3
CALLBACK = {"@callbacks": "spacy-electra.torch_products.v1"}
HEADS = ("tagger", "parser", "ner", "textcat")
spacy.registry.callbacks.register("spacy-electra.torch_products.v1", func=create_torch_products)


class OthersOps(NumpyOps):
    """As thinc-apple-ops has them."""


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def made(*, in_config: bool = False) -> Language:
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("xx", config={"nlp": {"after_pipeline_creation": CALLBACK}} if in_config else {})
    for name in HEADS:
        nlp.add_pipe(name)
    for label in ("A", "B"):
        for name in HEADS:
            nlp.get_pipe(name).add_label(label)
    nlp.initialize()
    for name in HEADS:  # what starts from zero would answer the same whatever it reads
        for node in nlp.get_pipe(name).model.walk():
            for param in node.param_names:
                if node.has_param(param):
                    shape = node.get_param(param).shape
                    node.set_param(param, 0.3 * normal(*shape))
    return nlp


def kinds(nlp: Language) -> set[type]:
    return {type(node.ops) for _, pipe in nlp.components for node in pipe.model.walk()}


@pytest.mark.parametrize(("trans1", "trans2", "has_out"), list(product([False, True], repeat=3)))
def test_products_are_those_of_numpy(trans1: bool, trans2: bool, has_out: bool):
    x, y = normal(7, 5), normal(5, 3)
    out = np.full((8, 3), 9.0, dtype=np.float32)
    given = {"out": out[1:]} if has_out else {}
    one, other = (x.T.copy() if trans1 else x), (y.T.copy() if trans2 else y)
    answer = TorchProductsOps().gemm(one, other, trans1=trans1, trans2=trans2, **given)
    np.testing.assert_allclose(answer, x @ y, rtol=1e-5, atol=1e-5)
    if has_out:
        assert answer.base is out
        assert (out[0] == 9.0).all()


@pytest.mark.parametrize("wrong", [np.ones(5, dtype=np.float32), np.ones((5, 3))], ids=["vector", "float64"])
def test_what_thinc_refuses_is_refused_in_its_words(wrong: np.ndarray):
    messages = []
    for ops in (NumpyOps(), TorchProductsOps()):
        with pytest.raises(ValueError, match=r"x|y") as error:
            ops.gemm(normal(7, 5), wrong)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_arrays_that_cannot_be_written_and_those_in_steps_are_multiplied_without_a_warning():
    x, y = normal(7, 10)[:, ::2], normal(5, 3)[::-1]
    expected = x @ y
    x.flags.writeable = y.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(TorchProductsOps().gemm(x, y), expected, rtol=1e-5, atol=1e-5)


def test_no_rows_give_no_rows():
    assert TorchProductsOps().gemm(normal(0, 5), normal(3, 5), trans2=True).shape == (0, 3)


def test_operations_of_others_stay():
    nlp = made()
    others = OthersOps()
    for node in nlp.get_pipe("ner").model.walk():
        node.ops = others
    multiply_in_torch(nlp)
    assert {type(node.ops) for node in nlp.get_pipe("ner").model.walk()} == {OthersOps}
    assert {type(node.ops) for node in nlp.get_pipe("tagger").model.walk()} == {TorchProductsOps}


def test_heads_annotate_as_with_the_products_of_thinc():
    one, other = multiply_in_torch(made()), made()
    assert TorchProductsOps in kinds(one)
    assert TorchProductsOps not in kinds(other)
    for a, b in zip(one.pipe(TEXTS), other.pipe(TEXTS), strict=True):
        assert a.to_json().keys() == b.to_json().keys()
        assert [(t.tag_, t.dep_, t.head.i, t.ent_type_) for t in a] == [
            (t.tag_, t.dep_, t.head.i, t.ent_type_) for t in b
        ]
        assert a.cats == pytest.approx(b.cats, abs=1e-5)


def test_a_saved_pipeline_has_them_again(tmp_path):
    made(in_config=True).to_disk(tmp_path / "saved")
    assert TorchProductsOps in kinds(spacy.load(tmp_path / "saved"))
