"""Embeddings for another vocabulary: by hand-worked cases."""

from pathlib import Path

import pytest
import torch

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.transplant import transplant

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*SPECIAL, "a", "b", "c", "##a", "##b", "##c", "ab", "##bc", "apple", "##pie"]


def vocabulary(tmp_path: Path, pieces: list[str], *, cased: bool = False) -> WordPiece:
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    (folder / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(not cased).lower()}}}', encoding="utf8")
    return WordPiece.load(folder)


@pytest.mark.parametrize(
    ("piece", "sources"),
    [
        ("apple", ["apple"]),
        ("##bc", ["##bc"]),
        ("bc", ["b", "##c"]),  # a word's beginning is no continuation
        ("abc", ["ab", "##c"]),  # the longest first
        ("##abc", ["##a", "##bc"]),
        ("applepie", ["apple", "##pie"]),
        ("Apple", ["apple"]),  # its lower-cased self
        ("##Pie", ["##pie"]),
        ("äb", ["ab"]),  # the old vocabulary has no accents
        ("xa", []),  # no x anywhere
        ("##", []),
        ("[SEP]", ["[SEP]"]),
    ],
)
def test_a_piece_comes_from_the_old_pieces_of_its_text(tmp_path: Path, piece: str, sources: list[str]):
    new = vocabulary(tmp_path, list(dict.fromkeys([*SPECIAL, piece])), cased=True)
    found = transplant(vocabulary(tmp_path, OLD), new).sources[new.vocabulary.index(piece)]
    assert [OLD[number] for number in found] == sources


def test_an_uncased_piece_comes_from_a_cased_one_where_that_is_the_only_whole(tmp_path: Path):
    old = vocabulary(tmp_path, [*SPECIAL, "p", "##a", "Paris", "pa"], cased=True)
    new = vocabulary(tmp_path, [*SPECIAL, "paris", "pa"])
    assert transplant(old, new).sources[5:] == ((7,), (8,))


def test_vectors_are_copied_averaged_or_the_mean_of_all(tmp_path: Path):
    new = vocabulary(tmp_path, [*SPECIAL, "abc", "c", "x"])
    found = transplant(vocabulary(tmp_path, OLD), new)
    table = torch.randn(len(OLD), 3)
    got = found.means(table)
    assert torch.equal(got[6], table[OLD.index("c")])
    torch.testing.assert_close(got[5], (table[OLD.index("ab")] + table[OLD.index("##c")]) / 2)
    torch.testing.assert_close(got[7], table.mean(dim=0))
    assert torch.equal(got[:5], table[:5])
    assert (found.copied, found.composed, found.left) == (6, 1, 1)
    assert str(found) == "of 8 pieces 6 copied, 1 composed, 1 without a source"


def test_biases_are_numbers(tmp_path: Path):
    found = transplant(vocabulary(tmp_path, OLD), vocabulary(tmp_path, [*SPECIAL, "abc"]))
    bias = torch.arange(float(len(OLD)))
    assert found.means(bias).tolist() == [0, 1, 2, 3, 4, (11 + 10) / 2]


def test_the_same_vocabulary_gives_the_same_table(tmp_path: Path):
    old = vocabulary(tmp_path, OLD)
    table = torch.randn(len(OLD), 3)
    assert torch.equal(transplant(old, old).means(table), table)


def test_a_piece_that_the_old_tokenizer_never_gives_is_not_taken(tmp_path: Path):
    old = vocabulary(tmp_path, [*SPECIAL, "Paris", "paris"])
    new = vocabulary(tmp_path, [*SPECIAL, "Paris"], cased=True)
    assert transplant(old, new).sources[5:] == ((6,),)


def test_accents_that_the_new_tokenizer_loses_are_no_hindrance(tmp_path: Path):
    old = vocabulary(tmp_path, [*SPECIAL, "a", "##p", "Äp"], cased=True)
    new = vocabulary(tmp_path, [*SPECIAL, "ap"])
    assert transplant(old, new).sources[5:] == ((7,),)
