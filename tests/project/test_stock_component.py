"""Our vectors against those of spacy-transformers' own component: the shipped weights on all annotated sentences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from treebank import Sentence, read_sentences

torch.set_num_threads(1)

OURS = {"@architectures": "spacy-electra.ElectraTransformer.v2", "precision": "fp32"}
THEIRS = {
    "@architectures": "spacy-transformers.TransformerModel.v3",
    "get_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"},  # one window a document
}


def raw(nlp: Language, sentence: Sentence) -> Doc:
    """As spaCy's tokenizer splits it."""
    return nlp.make_doc(sentence.text)


def gold(nlp: Language, sentence: Sentence) -> Doc:
    """As annotated."""
    words = sentence.words
    return Doc(nlp.vocab, words=[word.form for word in words], spaces=[word.space_after for word in words])


def halved(nlp: Language, sentence: Sentence) -> Doc:
    """Every annotated word in two halves, so that many a token begins or ends inside a piece."""
    words, spaces = [], []
    for word in sentence.words:
        middle = len(word.form) // 2
        halves = [half for half in (word.form[:middle], word.form[middle:]) if half]
        words += halves
        spaces += [False] * (len(halves) - 1) + [word.space_after]
    return Doc(nlp.vocab, words=words, spaces=spaces)


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    folder = Path(__file__).parents[2] / "assets"
    return [sentence for path in sorted(folder.glob("software-*.conllu")) for sentence in read_sentences(path)]


@pytest.fixture(scope="module")
def both() -> tuple[Language, Language]:
    weights = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"
    pipelines = spacy.blank("en"), spacy.blank("en")
    for nlp, model in zip(pipelines, (OURS, THEIRS), strict=True):
        nlp.add_pipe("transformer", config={"model": {**model, "name": str(weights)}}).model.initialize()
    return pipelines


def token_vectors(doc: Doc) -> np.ndarray:
    """(tokens, width) the mean of each token's pieces; every token here has some."""
    data = doc._.trf_data
    pieces = data.tensors[0].reshape(-1, data.width)[data.align.dataXd]
    lengths = data.align.lengths
    assert lengths.min() > 0
    return np.add.reduceat(pieces, np.cumsum(lengths) - lengths) / lengths[:, None]


@pytest.mark.parametrize("split", [raw, gold, halved])
def test_token_vectors_are_those_of_the_stock_component(
    both: tuple[Language, Language], sentences: list[Sentence], split: Callable[[Language, Sentence], Doc]
):
    assert len(sentences) >= 500
    ours, theirs = (list(nlp.pipe(split(nlp, sentence) for sentence in sentences)) for nlp in both)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(token_vectors(our), token_vectors(their), rtol=0, atol=1e-5)
