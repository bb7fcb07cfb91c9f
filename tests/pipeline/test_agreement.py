"""What counts as annotated alike."""

import pytest
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_electra.pipeline.agreement import agreement

SAME = {"tags": ["N", "V"], "heads": [1, 1], "deps": ["subj", "root"], "ents": ["B-PER", "O"]}


def made(cats: dict[str, float] | None = None, **changed: object) -> Doc:
    doc = Doc(Vocab(), words=["Ann", "sees"], **SAME | changed)
    doc.cats = cats or {}
    return doc


@pytest.mark.parametrize(
    "changed",
    [
        {"tags": ["N", "X"]},
        {"pos": ["", "VERB"]},
        {"heads": [0, 1]},
        {"deps": ["obj", "root"]},
        {"ents": ["B-ORG", "O"]},
        {"morphs": ["Case=Nom", ""]},
    ],
)
def test_a_token_with_one_other_annotation_is_not_alike(changed):
    assert agreement([made()], [made(**changed)]) == 0.5


@pytest.mark.parametrize(
    ("cats", "share"),
    [
        ({"bug": 0.9, "docs": 0.2}, 1.0),
        ({"bug": 0.3, "docs": 0.2}, 2 / 3),  # the best is the same, but not given
        ({"bug": 0.6, "docs": 0.7}, 2 / 3),
        ({}, 2 / 3),
    ],
)
def test_a_document_with_categories_counts_as_a_token_does(cats, share):
    assert agreement([made({"bug": 0.7, "docs": 0.3})], [made(cats)]) == pytest.approx(share)


def test_the_share_is_over_all_documents():
    assert agreement([made(), made()], [made(), made(tags=["X", "X"])]) == 0.5
    assert agreement([], []) == 1.0
