"""Marks that are letters stay in an uncased vocabulary; accents that are lost are told where words merge."""

import logging

import pytest

from spacy_electra.data.tokenizer.accents import count_marks
from spacy_electra.data.tokenizer.wordpiece import WordPiece, train_wordpiece


def trained(words: list[str], **options: bool | None) -> WordPiece:
    settings = {"cased": False, "strip_accents": None} | options
    return train_wordpiece([" ".join(words)] * 20, vocab_size=60, **settings)


def cut(tokenizer: WordPiece, words: list[str]) -> set[tuple[int, ...]]:
    return {tuple(pieces.ids.tolist()) for pieces in tokenizer.encode(words)}


@pytest.mark.parametrize(
    "words",
    [
        ["バス", "パス", "ハス"],
        ["मैं", "मे", "मु"],
        ["ใกล้", "ใกล"],
        ["أ", "ا"],
        ["バス", "パス", "for", "the", "café", "cafe"],
    ],
    ids=["Japanese", "Hindi", "Thai", "Arabic", "mixed"],
)
def test_marks_that_are_letters_are_kept(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = trained(words)
    assert len(cut(tokenizer, words)) == len(words)
    assert tokenizer.keeps_accents
    assert not tokenizer.cased
    lost = trained(words, strip_accents=True)
    assert len(cut(lost, words)) < len(words)
    assert not lost.keeps_accents
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING and "Accents" in record.msg]


@pytest.mark.parametrize("words", [["schön", "schon"], ["má", "mà", "ma"], ["мой", "мои"], ["ή", "η"]])
def test_words_that_lose_their_accents_to_others_are_told(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = trained(words)
    assert len(cut(tokenizer, words)) == 1
    assert f"{' and '.join(words)} become" in caplog.text
    assert "--keep-accents" in caplog.text
    caplog.clear()
    assert len(cut(trained(words, strip_accents=False), words)) == len(words)
    trained(words, strip_accents=True)
    trained(words, cased=True)
    assert "Accents" not in caplog.text


def test_few_letters_of_another_script_among_accents_are_lost_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert not trained(["é"] * 40 + ["バス", "パス"]).keeps_accents
    assert "バス and パス become ハス" in caplog.text


@pytest.mark.parametrize("words", [["café", "zoo"], ["❤\ufe0f", "❤"], ["naïve", "naive"] + ["the"] * 5000])
def test_accents_that_merge_no_or_hardly_any_words_are_lost_as_in_bert(
    words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert not trained(words).keeps_accents
    assert "Accents" not in caplog.text


def test_the_default_learns_the_vocabulary_of_stripping_where_it_strips() -> None:
    words = ["CAFÉ", "İstanbul", "naïve.", "Ångström", "Ĳ", "don't", "北京大学", "x\u037ey"]
    assert trained(words).fingerprint == trained(words, strip_accents=None).fingerprint
    assert trained(words).vocabulary == trained(words, strip_accents=True).vocabulary


def test_marks_are_counted_by_the_script_of_their_letter() -> None:
    marks = count_marks({"é": 3, "ガ": 2, "カ": 1, "plain": 10, "\u0301": 5, "1\u0301": 7})
    assert (marks.accents, marks.letters, marks.examples) == (3, 2, ("ガ and カ become カ",))
    assert marks.merging == pytest.approx(2 / 28)
