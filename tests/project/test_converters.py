"""The converters, from files as they are published to what `spacy train` reads."""

import gzip
import os
import tarfile
from pathlib import Path

import pytest
import spacy
from clear import check_place
from convert_conllu import is_held_out, make_docs, some_documents, write
from convert_iob import main as convert_iob
from convert_iob import write as write_iob
from convert_textcat import Labelled, few_of_each, first_there, read_labelled
from convert_textcat import write as write_texts
from raw_text import main as extract
from raw_text import read_archive
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from treebank import read_sentences
from uner import read_annotated

TREEBANK = """\
# newdoc id = doc-1
# sent_id = doc-1-1
# category = bug
# text = Redis doesn't start.
1	Redis	Redis	PROPN	NNP	Number=Sing	4	nsubj	_	name=B-LIBRARY
2-3	doesn't	_	_	_	_	_	_	_	_
2	does	do	AUX	VBZ	Mood=Ind|VerbForm=Fin	4	aux	_	_
3	n't	not	PART	RB	Polarity=Neg	4	advmod	_	_
4	start	start	VERB	VB	VerbForm=Inf	0	root	_	SpaceAfter=No
5	.	.	PUNCT	.	_	4	punct	_	_

# sent_id = doc-1-2
# category = docs
# text = See Spring Boot
1	See	see	VERB	VB	Mood=Imp	0	root	_	_
2	Spring	Spring	PROPN	NNP	Number=Sing	3	compound	_	name=B-LIBRARY
3	Boot	Boot	PROPN	NNP	Number=Sing	1	obj	_	name=I-LIBRARY

# newdoc id = doc-2
# sent_id = doc-2-1
# category = docs
# text = Why
1	Why	why	ADV	WRB	PronType=Int	0	root	_	_

"""


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    path = tmp_path / "train.conllu"
    path.write_text(TREEBANK, encoding="utf8")
    return path


def docs_of(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_every_column_arrives(treebank: Path, tmp_path: Path) -> None:
    write(list(read_sentences(treebank)), tmp_path / "train.spacy", group=1, has_entities=True)
    first, second, _ = docs_of(tmp_path / "train.spacy")
    assert first.text == "Redis doesn't start."
    assert [token.tag_ for token in first] == ["NNP", "VBZ", "RB", "VB", "."]
    assert [token.pos_ for token in first] == ["PROPN", "AUX", "PART", "VERB", "PUNCT"]
    assert [token.lemma_ for token in first] == ["Redis", "do", "not", "start", "."]
    assert [token.head.i for token in first] == [3, 3, 3, 3, 3]
    assert [token.dep_ for token in first] == ["nsubj", "aux", "advmod", "ROOT", "punct"]
    assert str(first[1].morph) == "Mood=Ind|VerbForm=Fin"
    assert str(first[4].morph) == ""
    assert [(entity.text, entity.label_) for entity in second.ents] == [("Spring Boot", "LIBRARY")]


def test_a_category_is_one_of_those_in_the_file(treebank: Path) -> None:
    docs = list(make_docs(list(read_sentences(treebank)), group=1, has_entities=True))
    assert [doc.cats for doc in docs] == [
        {"bug": 1.0, "docs": 0.0},
        {"bug": 0.0, "docs": 1.0},
        {"bug": 0.0, "docs": 1.0},
    ]


def test_grouped_sentences_never_cross_documents(treebank: Path) -> None:
    treebank.write_text(TREEBANK.replace("# category", "# kind"), encoding="utf8")
    docs = list(make_docs(list(read_sentences(treebank)), group=5, has_entities=True))
    assert [doc.text for doc in docs] == ["Redis doesn't start. See Spring Boot", "Why"]
    assert [sentence.text for sentence in docs[0].sents] == ["Redis doesn't start.", "See Spring Boot"]
    assert [token.head.i for token in docs[0]] == [3, 3, 3, 3, 3, 5, 7, 5]


def test_categories_and_groups_exclude_each_other(treebank: Path) -> None:
    with pytest.raises(ValueError, match="use --group 1, not 2"):
        list(make_docs(list(read_sentences(treebank)), group=2, has_entities=True))


def test_entities_that_nobody_annotated_stay_unset(treebank: Path) -> None:
    sentences = list(read_sentences(treebank))
    assert not next(make_docs(sentences, group=1, has_entities=False)).has_annotation("ENT_IOB")
    assert next(make_docs(sentences, group=1, has_entities=True)).has_annotation("ENT_IOB")


def test_an_entity_that_never_began_is_refused(treebank: Path) -> None:
    treebank.write_text(TREEBANK.replace("name=B-LIBRARY\n3", "_\n3"), encoding="utf8")
    with pytest.raises(ValueError, match="doc-1-2: 'Boot' is I-LIBRARY, but no LIBRARY began before it"):
        list(make_docs(list(read_sentences(treebank)), group=1, has_entities=True))


def test_about_one_document_in_ten_is_held_out_and_always_the_same() -> None:
    chosen = [number for number in range(2000) if is_held_out(f"document-{number}", every=10)]
    assert 160 < len(chosen) < 240
    assert chosen == [number for number in range(2000) if is_held_out(f"document-{number}", every=10)]


def test_a_limit_keeps_whole_documents_and_a_larger_one_the_same_and_more(treebank: Path) -> None:
    sentences = list(read_sentences(treebank))
    kept = [[one.id for one in some_documents(sentences, most)] for most in (1, 2, 3)]
    assert kept[0] in (["doc-1-1", "doc-1-2"], ["doc-2-1"])
    assert kept[1] == kept[2] == ["doc-1-1", "doc-1-2", "doc-2-1"]


def test_jsonl_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "very good .", "label": "positive"}\n\n{"text": "dull .", "label": "negative"}\n')
    assert list(read_labelled(path, names=[])) == [Labelled("very good .", "positive"), Labelled("dull .", "negative")]


def test_the_stanford_layout_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stsa.binary.train"
    path.write_text("1 a stirring , funny film .\n0 dull\n")
    examples = list(read_labelled(path, names=["negative", "positive"]))
    assert examples == [Labelled("a stirring , funny film .", "positive"), Labelled("dull", "negative")]


@pytest.mark.parametrize("line", ["2 what", "positive what", "1", "{}"])
def test_a_line_without_a_label_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "stsa.binary.train"
    path.write_text(f"0 fine\n{line}\n")
    with pytest.raises(ValueError, match=r"stsa\.binary\.train:2: expected a label from 0 to 1"):
        list(read_labelled(path, names=["negative", "positive"]))


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', "3"])
def test_json_without_a_label_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r'train\.jsonl:1: expected an object with "text" and "label"'):
        list(read_labelled(path, names=[]))


def test_texts_have_exclusive_categories(tmp_path: Path) -> None:
    path = tmp_path / "dev.spacy"
    write_texts(spacy.blank("en"), [Labelled("dull", "negative")], ["negative", "positive"], path)
    assert [(doc.text, doc.cats) for doc in docs_of(path)] == [("dull", {"negative": 1.0, "positive": 0.0})]


def test_the_first_texts_of_each_label_are_kept_in_their_order() -> None:
    examples = [Labelled(text, label) for text, label in zip("abcdef", "xyxxyz", strict=True)]
    assert [example.text for example in few_of_each(examples, 2)] == ["a", "b", "c", "e", "f"]


def test_the_first_name_that_is_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stsa.binary.dev"
    path.touch()
    assert first_there([tmp_path / "dev.jsonl", path]) == path
    with pytest.raises(FileNotFoundError, match=r"there is no file .*dev\.jsonl"):
        first_there([tmp_path / "dev.jsonl"])


def test_the_prose_of_an_archive_is_extracted(tmp_path: Path) -> None:
    pages = tmp_path / "repository"
    pages.mkdir()
    (pages / "one.md").write_text("# Title\n\nThis is the *first* paragraph of the book.\n\n```\nx = 1\n```\n")
    (pages / "two.py").write_text("This is not the suffix of a text file.")
    with tarfile.open(tmp_path / "books.tar.gz", "w:gz") as archive:
        archive.add(pages, "repository")
    assert list(read_archive(tmp_path / "books.tar.gz")) == [
        ("repository/one.md", "This is the first paragraph of the book.")
    ]


def test_only_what_commands_make_may_be_cleared(tmp_path: Path) -> None:
    check_place(tmp_path / "corpus" / "software", tmp_path)
    for folder in ("assets", "corpus", "corpus/..", "../corpus/software", "."):
        with pytest.raises(ValueError, match="nothing was removed"):
            check_place(tmp_path / folder, tmp_path)


def archive(folder: Path, text: str) -> Path:
    """A .tar.gz with one Markdown file."""
    (folder / "page.md").write_text(text)
    (folder / "archives").mkdir()
    with tarfile.open(folder / "archives" / "docs.tar.gz", "w:gz") as file:
        file.add(folder / "page.md", "docs/page.md")
    return folder / "archives"


def test_the_same_archives_give_the_same_bytes(tmp_path: Path) -> None:
    archives = archive(tmp_path, "This paragraph says what the library does for you.\n")
    for name in ("one", "two"):
        extract(archives, tmp_path / name)
        os.utime(tmp_path / name / "docs.jsonl.gz", (0, 0))
    one, two = ((tmp_path / name / "docs.jsonl.gz").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one[4:8] == bytes(4)  # the time in the head of the file
    assert b"what the library does" in gzip.decompress(one)


def test_a_truncated_download_is_named(tmp_path: Path) -> None:
    archives = archive(tmp_path, "Words of a paragraph that is long enough to be kept.\n" * 400)
    (path,) = archives.iterdir()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"docs\.tar\.gz is damaged .*fetch the assets again"):
        list(read_archive(path))
    packed = tmp_path / "train.conllu.gz"
    packed.write_bytes(gzip.compress(TREEBANK.encode())[:80])
    with pytest.raises(ValueError, match=r"train\.conllu\.gz is damaged"):
        list(read_sentences(packed))


def test_sentences_with_entities_alone_become_documents(tmp_path: Path) -> None:
    lines = ["New\tB-LOC", "York\tI-LOC", "!\tO", "", "Spring\tB-PER", "", "so\tO", ""]
    (tmp_path / "train.iob").write_text("\n".join(lines), encoding="utf8")
    sentences = list(read_annotated(tmp_path / "train.iob", ignore=frozenset({"PER"})))
    write_iob(spacy.blank("en").vocab, sentences, tmp_path / "train.spacy")
    docs = docs_of(tmp_path / "train.spacy")
    assert [doc.text for doc in docs] == ["New York ! ", "Spring ", "so "]
    assert [[(ent.text, ent.label_) for ent in doc.ents] for doc in docs] == [[("New York", "LOC")], [], []]
    assert docs[2].has_annotation("ENT_IOB")  # that there is none is something to learn
    with pytest.raises(ValueError, match=r"there are no sentences for .*dev\.spacy"):
        write_iob(spacy.blank("en").vocab, [], tmp_path / "dev.spacy")


def test_languages_without_spaces_keep_their_entities_by_characters(tmp_path: Path) -> None:
    lines = ["他\tO", "在\tO", "北京\tB-LOC", "。\tO", "", "好\tO", "", "再见\tO", ""]
    (tmp_path / "train.iob").write_text("\n".join(lines), encoding="utf8")
    source, target = tmp_path / "train.iob", tmp_path / "train.spacy"
    convert_iob(source, target, ignore="", lang="zh", held_out=None, every=10, limit=2, spaces=False)
    docs = docs_of(tmp_path / "train.spacy")
    assert [doc.text for doc in docs] == ["他在北京。", "好"]
    example = Example(spacy.blank("zh").make_doc(docs[0].text), docs[0])
    assert [token.text for token in example.x] == list("他在北京。")
    assert example.get_aligned_ner() == ["O", "O", "B-LOC", "L-LOC", "O"]
