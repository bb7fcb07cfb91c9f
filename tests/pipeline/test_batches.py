"""What is promised of a text that is annotated alone or among others, where torch predicts."""

import numpy as np
import pytest
import torch

from spacy_electra.model.inference.backend import Backend
from spacy_electra.pipeline.transformer import shim_of_transformer

LETTERS = "abcdefghijklmnopqrstuvwxyz "
TEXTS = [" ".join(["the cat reads pieces, not words"] * n) + LETTERS[:n] for n in range(1, 25)]
NATIVE = (Backend.NATIVE_INT16, Backend.NATIVE_INT8)
IN_BITS = torch.backends.cpu.get_cpu_capability() == "AVX2"  # where bits were compared


def vectors(nlp, texts, **batches) -> list[np.ndarray]:
    return [doc._.trf_data.tensors[0][0] for doc in nlp.pipe(texts, **batches)]


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 0.1)])
@pytest.mark.parametrize("window", [None, 24])
def test_vectors_are_within_a_bound_in_any_batch_and_equal_where_that_was_measured(make_nlp, precision, bound, window):
    nlp = make_nlp(precision=precision, window=window)
    assert shim_of_transformer(nlp.get_pipe("transformer").model).choice.prediction not in NATIVE
    alone = [array for text in TEXTS for array in vectors(nlp, [text])]
    for answer in (vectors(nlp, TEXTS, batch_size=64), vectors(nlp, TEXTS[::-1], batch_size=5)[::-1]):
        for a, b in zip(answer, alone, strict=True):
            np.testing.assert_allclose(a, b, atol=0.0 if IN_BITS else bound, rtol=0)
