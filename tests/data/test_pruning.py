"""A smaller vocabulary out of a large one, by hand-worked counts; Hugging Face reads what is written."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from spacy_electra.data.tokenizer.pruning import count_pieces, prune_vocabulary
from spacy_electra.data.tokenizer.wordpiece import WordPiece

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "[unused0]", "a", "b", "é", "я", "##a", "##b", "##я", "ab", "##ab", "abab", "cab"]
TEXTS = ["ab ab ab abab", "a b cab ab"]  # ab 4, abab 1, a 1, b 1, cab 1


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"do_lower_case": true, "strip_accents": false, "tokenizer_class": "BertTokenizer"}', encoding="utf8"
    )
    return WordPiece.load(tmp_path)


def test_pieces_are_counted(tokenizer: WordPiece):
    counts = count_pieces(TEXTS * 200, tokenizer)  # more than are taken at once
    assert {piece: int(count) // 200 for piece, count in zip(PIECES, counts, strict=True) if count} == {
        "ab": 4,
        "abab": 1,
        "a": 1,
        "b": 1,
        "cab": 1,
    }


def test_pieces_that_do_not_occur_go_and_ascii_characters_stay(tokenizer: WordPiece):
    pruned = prune_vocabulary(tokenizer, count_pieces(TEXTS, tokenizer), vocab_size=None)
    assert pruned.vocabulary == [*SPECIAL, "a", "b", "##a", "##b", "ab", "abab", "cab"]


def test_the_most_frequent_stay_in_their_order(tokenizer: WordPiece):
    pruned = prune_vocabulary(tokenizer, count_pieces([*TEXTS, "cab"], tokenizer), vocab_size=11)
    assert pruned.vocabulary == [*SPECIAL, "a", "b", "##a", "##b", "ab", "cab"]
    (pieces,) = pruned.encode(["abab"])
    assert [pruned.vocabulary[number] for number in pieces.ids] == ["ab", "##a", "##b"]


def test_characters_that_occur_stay_alone_and_inside_words(tokenizer: WordPiece):
    pruned = prune_vocabulary(tokenizer, count_pieces(["я"], tokenizer), vocab_size=None)
    assert {"я", "##я"} < set(pruned.vocabulary)
    assert "é" not in pruned.vocabulary


def test_a_piece_with_a_character_that_stands_nowhere_else_stays(tokenizer: WordPiece):
    pruned = prune_vocabulary(tokenizer, count_pieces([*TEXTS] * 3, tokenizer), vocab_size=10)
    (pieces,) = pruned.encode(["cab abab"])
    assert "ab" not in pruned.vocabulary
    assert [pruned.vocabulary[number] for number in pieces.ids] == ["cab", "a", "##b", "##a", "##b"]


def test_settings_stay(tokenizer: WordPiece):
    pruned = prune_vocabulary(tokenizer, count_pieces(TEXTS, tokenizer), vocab_size=None)
    assert pruned.normalize("ÉA") == tokenizer.normalize("ÉA") == "éa"
    assert [getattr(pruned.special, role) for role in ("pad", "unk", "cls", "sep", "mask")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("vocab_size", [None, 11])
def test_hugging_face_cuts_the_same_pieces(tokenizer: WordPiece, tmp_path: Path, vocab_size: int | None):
    pruned = prune_vocabulary(tokenizer, count_pieces(TEXTS, tokenizer), vocab_size=vocab_size)
    pruned.save(tmp_path / "pruned")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "pruned")
    for text in [*TEXTS, "cabab", "Abab b", "x"]:
        ids = theirs(text)["input_ids"]
        assert ids[0] == pruned.special.cls
        assert ids[-1] == pruned.special.sep
        assert ids[1:-1] == pruned.encode([text])[0].ids.tolist()


def test_a_tokenizer_that_hugging_face_wrote_keeps_its_added_tokens(tokenizer: WordPiece, tmp_path: Path):
    theirs = BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    theirs.add_tokens(["<url>"])
    theirs.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    theirs.save_pretrained(tmp_path / "theirs")
    whole = WordPiece.load(tmp_path / "theirs")
    pruned = prune_vocabulary(whole, count_pieces(TEXTS, whole), vocab_size=None)
    assert pruned.vocabulary[-2:] == ["<url>", "[E1]"]
    ids = pruned.encode(["ab <url> ab"])[0].ids
    assert [pruned.vocabulary[number] for number in ids] == ["ab", "<url>", "ab"]


def test_too_few_pieces_are_refused_with_the_least_number(tokenizer: WordPiece):
    counts = count_pieces(TEXTS, tokenizer)
    with pytest.raises(ValueError, match="vocab_size=8 is too small, expected at least 10"):
        prune_vocabulary(tokenizer, counts, vocab_size=8)


def test_texts_without_pieces_are_refused(tokenizer: WordPiece):
    with pytest.raises(ValueError, match="hold no pieces"):
        prune_vocabulary(tokenizer, np.zeros(len(PIECES), dtype=np.int64), vocab_size=None)
