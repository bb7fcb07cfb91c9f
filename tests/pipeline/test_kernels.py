"""Predictions in kernels of our own, as users of a pipeline see them, and where there are none."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from spacy.tokens import Doc

from spacy_electra.model import library, precision
from spacy_electra.model.encoder import EncoderShape
from spacy_electra.model.native import NativeEncoder, predicts_natively
from spacy_electra.model.optimizer import adamw_v1
from spacy_electra.pipeline.transformer import encoder_of

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
TEXTS = ["The cat reads words.", "", "Unbelievably, apples sat on the encoder!", "mat", "the cat sat on the mat " * 20]
needs_kernels = pytest.mark.skipif(
    not predicts_natively(CPU, SHAPE, in_bytes=False),
    reason="no AVX512-VNNI, AMX, or no compiled kernels",
)


@pytest.fixture
def make_wide(make_nlp, wide_dir):
    return partial(make_nlp, name=str(wide_dir), window=24)


def arrays(nlp, texts, **batches):
    docs = list(nlp.pipe(texts, **batches))
    return [doc._.trf_data.tensors[0][0] for doc in docs if len(doc)]


def module_of(nlp):
    return encoder_of(nlp.get_pipe("transformer").model)._prediction_module()


@needs_kernels
@pytest.mark.parametrize(("precision", "lowest"), [("bf16", 0.999999), ("int8", 0.997)])
def test_vectors_are_those_of_float32_within_rounding(make_wide, precision, lowest):
    full, lower = make_wide(precision="fp32"), make_wide(precision=precision)
    assert isinstance(module_of(lower), NativeEncoder)
    for a, b in zip(arrays(full, TEXTS), arrays(lower, TEXTS), strict=True):
        assert b.dtype == np.float32
        assert a.shape == b.shape
        a, b = a.astype(np.float64), b.astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert lowest < cosine.min() < 1


@needs_kernels
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("max_slots", [40, 4096])
def test_no_bit_depends_on_batch_or_order(make_wide, precision, max_slots):
    nlp = make_wide(precision=precision, max_slots=max_slots)
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
    encoder_of(nlp.get_pipe("transformer").model).precision = "fp32"
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
@pytest.mark.parametrize("is_damaged", [False, True])
def test_without_kernels_predictions_run_in_torch(make_wide, monkeypatch, tmp_path, precision, is_damaged):
    if is_damaged:
        for name in ("encoder", "training"):
            (tmp_path / f"_kernels_{name}.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library._loaded.cache_clear()
    try:
        nlp = make_wide(precision=precision)
        assert not isinstance(module_of(nlp), NativeEncoder)
        for a, b in zip(arrays(nlp, TEXTS), arrays(make_wide(precision="fp32"), TEXTS), strict=True):
            np.testing.assert_allclose(a, b, atol=0.2)
    finally:
        library._loaded.cache_clear()


@needs_kernels
def test_predictions_need_no_units_of_bfloat16(make_wide, monkeypatch, tmp_path):
    """A processor with AVX512-VNNI alone."""
    name = "_kernels_encoder.so"
    shutil.copy(library.FOLDER / name, tmp_path / name)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(precision, "has_avx512_bf16", lambda: False)
    library._loaded.cache_clear()
    try:
        nlp = make_wide(precision="auto")
        chosen = encoder_of(nlp.get_pipe("transformer").model).chosen_precision
        assert (chosen.prediction, chosen.training) == (torch.bfloat16, torch.float32)
        assert isinstance(module_of(nlp), NativeEncoder)
    finally:
        library._loaded.cache_clear()


@needs_kernels
def test_kernels_of_another_interface_are_not_called(monkeypatch, caplog):
    monkeypatch.setattr(library, "INTERFACE", -1)
    library._loaded.cache_clear()
    try:
        with caplog.at_level("INFO", logger="spacy_electra"):
            assert not predicts_natively(CPU, SHAPE, in_bytes=True)
        assert "compiled from another version" in caplog.text
    finally:
        library._loaded.cache_clear()
