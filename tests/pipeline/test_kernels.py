"""Predictions by the C kernels, as users of a pipeline see them, and where there are none."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from spacy.tokens import Doc

from spacy_electra.model.inference.backend import Backend, choose_backend, machine_of
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.transformer import shim_of_transformer

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
TEXTS = ["The cat reads words.", "", "Unbelievably, apples sat on the encoder!", "mat", "the cat sat on the mat " * 20]
needs_kernels = pytest.mark.skipif(
    choose_backend("int8", CPU, SHAPE).prediction is not Backend.NATIVE_INT8,
    reason="no AVX512-VNNI, or spacy-electra-kernels is not installed",
)
pytestmark = pytest.mark.usefixtures("without_amx")


@pytest.fixture
def make_wide(make_nlp, wide_dir):
    return partial(make_nlp, name=str(wide_dir), window=24)


def arrays(nlp, texts, **batches):
    docs = list(nlp.pipe(texts, **batches))
    return [doc._.trf_data.tensors[0][0] for doc in docs if len(doc)]


def backend_of(nlp):
    return shim_of_transformer(nlp.get_pipe("transformer").model).choice.prediction


@needs_kernels
@pytest.mark.parametrize(
    ("precision", "expected", "lowest"),
    [("bf16", Backend.NATIVE_INT16, 0.999999), ("int8", Backend.NATIVE_INT8, 0.997)],
)
def test_vectors_are_those_of_float32_within_rounding(make_wide, precision, expected, lowest):
    full, lower = make_wide(precision="fp32"), make_wide(precision=precision)
    assert backend_of(lower) is expected
    for a, b in zip(arrays(full, TEXTS), arrays(lower, TEXTS), strict=True):
        assert b.dtype == np.float32
        assert a.shape == b.shape
        a, b = a.astype(np.float64), b.astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert lowest < cosine.min() < 1


@needs_kernels
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("max_batch_tokens", [40, 4096])
def test_no_bit_depends_on_batch_or_order(make_wide, precision, max_batch_tokens):
    nlp = make_wide(precision=precision, max_batch_tokens=max_batch_tokens)
    alone = [array for text in TEXTS for array in arrays(nlp, [text])]
    for answer in (arrays(nlp, TEXTS, batch_size=50), arrays(nlp, TEXTS[::-1], batch_size=2)[::-1]):
        for a, b in zip(answer, alone, strict=True):
            np.testing.assert_array_equal(a, b)


@needs_kernels
def test_a_step_of_training_changes_what_the_kernels_answer(make_wide, examples_of):
    nlp = make_wide(precision="bf16")
    (before,) = arrays(nlp, TEXTS[:1])
    nlp.resume_training()
    nlp.update(examples_of(nlp), sgd=adamw_v1(1e-3))
    (after,) = arrays(nlp, TEXTS[:1])
    assert (before != after).any()
    shim_of_transformer(nlp.get_pipe("transformer").model).precision = "fp32"
    np.testing.assert_allclose(arrays(nlp, TEXTS[:1])[0], after, atol=0.05)


@needs_kernels
def test_a_document_of_many_windows_on_several_threads(make_wide):
    nlp = make_wide(precision="bf16")
    doc = Doc(nlp.vocab, words=["cat", "mat", "unseen", "reads"] * 500)
    alone = nlp.get_pipe("transformer").predict([doc]).vectors
    try:
        torch.set_num_threads(3)
        assert torch.equal(nlp.get_pipe("transformer").predict([doc]).vectors, alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_without_kernels_predictions_run_in_torch(make_wide, assume, precision):
    machine = replace(machine_of(CPU), kernels_error="they were not compiled")
    assume(machine)
    nlp = make_wide(precision=precision)
    assert backend_of(nlp) not in (Backend.NATIVE_INT16, Backend.NATIVE_INT8)
    for a, b in zip(arrays(nlp, TEXTS), arrays(make_wide(precision="fp32"), TEXTS), strict=True):
        np.testing.assert_allclose(a, b, atol=0.2)


@needs_kernels
def test_predictions_need_no_units_of_bfloat16(make_wide, assume):
    """A processor with AVX512-VNNI alone."""
    full = arrays(make_wide(precision="fp32"), TEXTS)
    machine = replace(machine_of(CPU), amx=False, avx512_bf16=False)
    assume(machine)
    nlp = make_wide(precision="auto")
    choice = shim_of_transformer(nlp.get_pipe("transformer").model).choice
    assert (choice.prediction, choice.training) == (Backend.NATIVE_INT16, torch.float32)
    for a, b in zip(arrays(nlp, TEXTS), full, strict=True):
        np.testing.assert_allclose(a, b, atol=0.01)


def test_a_pipeline_in_int8_on_a_processor_without_kernels_says_why_not(make_wide, assume, caplog):
    machine = replace(machine_of(CPU), vnni=False)
    assume(machine)
    make_wide(precision="int8")
    assert 'precision = "int8" predicts as "auto" here: this processor has no AVX512-VNNI' in caplog.text
