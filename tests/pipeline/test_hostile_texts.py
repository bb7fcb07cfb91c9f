"""Generated texts through a pipeline: alone and in any batch they get the same annotations and the same vectors."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc

SOMETIMES = {"deadline": None, "max_examples": 25, "suppress_health_check": list(HealthCheck)}
AT_LENGTH = SOMETIMES | {"max_examples": 400}  # of up to 8 texts each
TOLERANCE = 1e-5

words = st.one_of(
    st.sampled_from(["encoder", "Unbelievably", "cat", "It's", "$3.50", "(two)", "\n", "  ", "\t", "\u200b", "\xad"]),
    st.sampled_from(["👩‍👩‍👧", "שלום", "مرحبا", "你好", "x" * 300, "\x00", "\x1b[0m", "\ufeff", "e\u0301"]),
    st.text(max_size=12),  # without halves of surrogate pairs, which spaCy itself refuses
)
texts = st.lists(words, max_size=30).map(" ".join)
batches = st.lists(texts, min_size=1, max_size=8)


@pytest.fixture(scope="module")
def nlp(make_nlp: Callable[..., Language]) -> Language:
    return make_nlp()


def vectors(doc: Doc) -> np.ndarray:
    """(pieces, width), empty where there are none."""
    tensors = doc._.trf_data.tensors
    return tensors[0].reshape(-1, tensors[0].shape[-1]) if tensors else np.zeros((0, 0))


def check(nlp: Language, batch: list[str], size: int) -> None:
    alone = [nlp(text) for text in batch]
    together = list(nlp.pipe(batch, batch_size=size))
    turned = list(nlp.pipe(batch[::-1], batch_size=len(batch)))[::-1]
    for text, doc, *others in zip(batch, alone, together, turned, strict=True):
        assert doc.text == text
        counts = doc._.trf_data.align.lengths
        assert len(counts) == len(doc)
        assert all(count > 0 for count, token in zip(counts, doc, strict=True) if not token.is_space)
        for other in others:
            assert [token.tag_ for token in other] == [token.tag_ for token in doc]
            np.testing.assert_allclose(vectors(other), vectors(doc), rtol=0, atol=TOLERANCE)


@settings(**SOMETIMES)
@given(batch=batches, size=st.integers(1, 8))
def test_texts_get_the_same_alone_and_in_any_batch(nlp: Language, batch: list[str], size: int) -> None:
    check(nlp, batch, size)


@pytest.mark.slow
def test_a_thousand_texts_get_the_same_alone_and_in_any_batch(nlp: Language) -> None:
    seen: list[str] = []

    @settings(**AT_LENGTH)
    @given(batch=batches, size=st.integers(1, 8))
    def run(batch: list[str], size: int) -> None:
        seen.extend(batch)
        check(nlp, batch, size)

    run()
    assert len(seen) >= 1000
