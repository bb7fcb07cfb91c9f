"""Predictions in int8 and weights in int8 on disk, as users of a pipeline see them."""

import logging

import numpy as np
import pytest
import spacy
import torch

from spacy_electra.model.inference.backend import Backend, choose_backend
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.transformer import shim_of_transformer

TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!", "He paid $3.50 for (two) apples."]
WIDE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
needs_kernels = pytest.mark.skipif(
    choose_backend("int8", torch.device("cpu"), WIDE).prediction is not Backend.NATIVE_INT8,
    reason="no AVX512-VNNI, or spacy-electra-kernels is not installed",
)


def vectors(nlp):
    docs = [nlp.make_doc(text) for text in TEXTS]
    return np.asarray(nlp.get_pipe("transformer").predict(docs).vectors)


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@needs_kernels
def test_int8_predictions_are_close_to_float32(make_nlp, wide_dir):
    full, bytes_ = (vectors(make_nlp(name=str(wide_dir), precision=precision)) for precision in ("fp32", "int8"))
    assert cosine(full, bytes_).min() > 0.995
    assert (full != bytes_).any()


@needs_kernels
def test_int8_predictions_do_not_depend_on_the_batch(make_nlp, wide_dir):
    nlp = make_nlp(name=str(wide_dir), precision="int8", max_batch_tokens=48)
    alone = [nlp.get_pipe("transformer").predict([nlp.make_doc(text)]).vectors for text in TEXTS]
    np.testing.assert_allclose(np.concatenate(alone), vectors(nlp), atol=1e-5)


def test_int8_is_as_auto_for_an_encoder_that_no_kernel_takes(make_nlp, caplog):
    with caplog.at_level(logging.WARNING):
        nlp = make_nlp(precision="int8")
    assert 'precision = "int8" predicts as "auto" here: ' in caplog.text
    assert "the C kernels do not take width 32, feed-forward width 48" in caplog.text
    int8, auto = (
        shim_of_transformer(each.get_pipe("transformer").model).choice for each in (nlp, make_nlp(precision="auto"))
    )
    assert int8 == auto
    np.testing.assert_array_equal(vectors(nlp), vectors(make_nlp(precision="auto")))


def test_weights_in_int8_on_disk_are_smaller_and_close(make_nlp, tmp_path):
    full, small = make_nlp(), make_nlp(weights_on_disk="int8")
    full.to_disk(tmp_path / "full")
    small.to_disk(tmp_path / "small")
    sizes = [(tmp_path / name / "transformer" / "model").stat().st_size for name in ("full", "small")]
    assert sizes[1] < 0.5 * sizes[0]
    assert cosine(vectors(spacy.load(tmp_path / "small")), vectors(full)).min() > 0.998


def test_a_pipeline_saved_in_int8_is_saved_the_same_again(make_nlp, tmp_path):
    make_nlp(weights_on_disk="int8").to_disk(tmp_path / "one")
    spacy.load(tmp_path / "one").to_disk(tmp_path / "two")
    one, two = [(tmp_path / name / "transformer" / "model").read_bytes() for name in ("one", "two")]
    assert one == two


def test_a_pipeline_saved_in_int8_learns_on(make_nlp, examples_of, tmp_path):
    make_nlp(weights_on_disk="int8").to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    before = vectors(nlp)
    nlp.resume_training()
    nlp.update(examples_of(nlp), sgd=adamw_v1(0.001))
    assert (vectors(nlp) != before).any()


@pytest.mark.parametrize(("on_disk", "warnings"), [("int8", 1), ("fp32", 0)])
def test_training_on_rounded_weights_says_once_what_will_be_lost(
    make_nlp, examples_of, tmp_path, caplog, on_disk, warnings
):
    make_nlp(weights_on_disk="int8").to_disk(tmp_path)
    nlp = spacy.load(tmp_path, config={"components.transformer.model.weights_on_disk": on_disk})
    optimizer = nlp.resume_training()
    for _ in range(2):
        nlp.update(examples_of(nlp), sgd=optimizer)
    assert caplog.text.count("these weights were rounded") == warnings


def test_another_kind_of_weights_on_disk_is_refused(make_nlp):
    with pytest.raises(ValueError, match="weights_on_disk must be one of fp32, int8, but got 'int4'"):
        make_nlp(weights_on_disk="int4")
