"""Entities published apart from the treebank, in the layouts of Universal NER."""

from pathlib import Path

import pytest
from treebank import Sentence, Word
from uner import merge_entities, read_annotated

# As in UNER_English-EWT: ids, texts, four columns; B-O is an artefact of its first version, OTH a label of it.
UNER = """\
# newdoc id = weblog-a
# sent_id = weblog-a-0001
# text = From the AP comes this.
1	From	B-O	-	stephen
2	the	O
3	AP	B-ORG	-	stephen
4	comes	O
5	this	O
6	.	O

# sent_id = weblog-a-0002
# text = Al-Zaman met Iraqi troops in Tikrit
1	Al	B-ORG	-	stephen
2	-	I-ORG	-	stephen
3	Zaman	I-ORG	-	stephen
4	met	O
5	Iraqi	B-OTH	-	stephen
6	troops	O
7	in	O
8	Tikrit	B-LOC	-	stephen

"""
PLAIN = "From\tO\nthe\tO\nAP\tB-ORG\n\nAl-Zaman\tB-ORG\nmet\tO\n"
NONE: frozenset[str] = frozenset()


def sentence(identifier: str, *forms: str) -> Sentence:
    words = tuple(Word(form, form, "X", "X", "", 0, "root", "O", space_after=True) for form in forms)
    return Sentence(identifier, identifier, {}, words)


def entities(one: Sentence) -> list[str]:
    return [word.entity for word in one.words]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "en_ewt-ud-dev.iob2"
    path.write_text(UNER, encoding="utf8")
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "dev.iob"
    path.write_text(PLAIN, encoding="utf8")
    return path


def test_the_published_layout_is_read(published: Path) -> None:
    first, second = read_annotated(published, ignore=frozenset({"OTH"}))
    assert (first.id, first.tokens[:3], first.tags[:3]) == ("weblog-a-0001", ("From", "the", "AP"), ("O", "O", "B-ORG"))
    assert second.tags == ("B-ORG", "I-ORG", "I-ORG", "O", "O", "O", "O", "B-LOC")


def test_a_label_that_is_not_ignored_stays(published: Path) -> None:
    assert list(read_annotated(published, ignore=NONE))[1].tags[4] == "B-OTH"


def test_two_columns_are_read(plain: Path) -> None:
    assert [one.tags for one in read_annotated(plain, ignore=NONE)] == [("O", "O", "B-ORG"), ("B-ORG", "O")]


def test_sentences_are_matched_by_id_whatever_their_order(published: Path) -> None:
    ours = [
        sentence("weblog-a-0002", "Al", "-", "Zaman", "met", "Iraqi", "troops", "in", "Tikrit"),
        sentence("weblog-a-0001", "From", "the", "AP", "comes", "this", "."),
    ]
    merged = merge_entities(ours, list(read_annotated(published, ignore=NONE)))
    assert entities(merged[0])[-1] == "B-LOC"
    assert entities(merged[1]) == ["O", "O", "B-ORG", "O", "O", "O"]


def test_sentences_without_ids_are_matched_by_order(plain: Path) -> None:
    ours = [sentence("1", "From", "the", "AP"), sentence("2", "Al", "-", "Zaman", "met")]
    merged = merge_entities(ours, list(read_annotated(plain, ignore=NONE)))
    assert [entities(one) for one in merged] == [["O", "O", "B-ORG"], ["B-ORG", "I-ORG", "I-ORG", "O"]]


def test_tokens_that_are_cut_otherwise_keep_their_entities(published: Path) -> None:
    ours = [
        sentence("weblog-a-0001", "Fromthe", "A", "P", "comes", "this."),
        sentence("weblog-a-0002", "Al-Zaman", "met", "Iraqi", "troops", "in", "Tik", "rit"),
    ]
    merged = merge_entities(ours, list(read_annotated(published, ignore=frozenset({"OTH"}))))
    assert entities(merged[0]) == ["O", "B-ORG", "I-ORG", "O", "O"]
    assert entities(merged[1]) == ["B-ORG", "O", "O", "O", "O", "B-LOC", "I-LOC"]


def test_entities_side_by_side_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "dev.iob"
    path.write_text("Paris\tB-LOC\nTexas\tB-LOC\n", encoding="utf8")
    merged = merge_entities([sentence("1", "Paris", "Texas")], list(read_annotated(path, ignore=NONE)))
    assert entities(merged[0]) == ["B-LOC", "B-LOC"]


def test_another_text_is_refused(plain: Path) -> None:
    ours = [sentence("1", "From", "the", "UPI"), sentence("2", "Al-Zaman", "met")]
    with pytest.raises(ValueError, match=r"dev\.iob:1: 'FromtheAP' is not the text of 1, 'FromtheUPI'"):
        merge_entities(ours, list(read_annotated(plain, ignore=NONE)))


def test_another_number_of_sentences_is_refused(plain: Path) -> None:
    with pytest.raises(ValueError, match="the treebank has 1 sentences, the entities have 2"):
        merge_entities([sentence("1", "From", "the", "AP")], list(read_annotated(plain, ignore=NONE)))


def test_a_sentence_without_a_partner_is_named(published: Path) -> None:
    with pytest.raises(ValueError, match="the first is weblog-b-0001"):
        merge_entities([sentence("weblog-b-0001", "x")], list(read_annotated(published, ignore=NONE)))


@pytest.mark.parametrize("rows", ["Paris\tI-LOC\n", "Paris\tB-LOC\nInc\tI-ORG\n", "Paris\tLOC\n", "Paris\tB-\n"])
def test_a_tag_against_iob2_is_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "dev.iob"
    path.write_text(rows, encoding="utf8")
    with pytest.raises(ValueError, match="does not follow IOB2"):
        list(read_annotated(path, ignore=NONE))
