"""CoNLL-U as UD English-EWT publishes it: multi-word tokens, empty nodes, spaces, documents."""

import gzip
from pathlib import Path

import pytest
from treebank import read_sentences

# Sentence 1 has a multi-word token, 2 an empty node and a sentence-final word without a space, 3 a new document.
EWT = """\
# newdoc id = weblog-a
# sent_id = weblog-a-0001
# newpar id = weblog-a-p0001
# text = They don't stop.
1	They	they	PRON	PRP	Case=Nom|Number=Plur	4	nsubj	4:nsubj	_
2-3	don't	_	_	_	_	_	_	_	_
2	do	do	AUX	VBP	Mood=Ind|VerbForm=Fin	4	aux	4:aux	_
3	n't	not	PART	RB	Polarity=Neg	4	advmod	4:advmod	_
4	stop	stop	VERB	VB	VerbForm=Inf	0	root	0:root	SpaceAfter=No
5	.	.	PUNCT	.	_	4	punct	4:punct	_

# sent_id = weblog-a-0002
# text = Over 300 are killed, 500 wounded.
1	Over	over	ADV	RB	_	2	advmod	2:advmod	_
2	300	300	NUM	CD	NumForm=Digit|NumType=Card	4	nsubj:pass	4:nsubj:pass	_
3	are	be	AUX	VBP	Mood=Ind|VerbForm=Fin	4	aux:pass	4:aux:pass	_
4	killed	kill	VERB	VBN	Tense=Past|VerbForm=Part	0	root	0:root	SpaceAfter=No
5	,	,	PUNCT	,	_	6	punct	6:punct	_
6	500	500	NUM	CD	NumForm=Digit|NumType=Card	4	conj	4:conj	_
7	wounded	wound	VERB	VBN	Tense=Past|VerbForm=Part	6	orphan	7.1:dep	SpaceAfter=No
7.1	wounded	wound	VERB	VBN	Tense=Past|VerbForm=Part	_	_	4:conj	CopyOf=4
8	.	.	PUNCT	.	_	4	punct	4:punct	SpaceAfter=No

# newdoc id = weblog-b
# sent_id = weblog-b-0001
# text = AP agrees
1	AP	AP	PROPN	NNP	Number=Sing	2	nsubj	2:nsubj	name=B-ORG
2	agrees	agree	VERB	VBZ	Mood=Ind|VerbForm=Fin	0	root	0:root	_

"""


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    path = tmp_path / "en_ewt-ud-dev.conllu"
    path.write_text(EWT, encoding="utf8")
    return path


def test_the_words_of_a_multi_word_token_stand_together(treebank: Path) -> None:
    sentence = next(read_sentences(treebank))
    assert [(word.form, word.space_after) for word in sentence.words[:4]] == [
        ("They", True),
        ("do", False),
        ("n't", True),
        ("stop", False),
    ]


def test_forms_and_spaces_give_the_text_back(treebank: Path) -> None:
    for sentence in read_sentences(treebank):
        assert sentence.text == sentence.comments["text"]


def test_an_empty_node_is_no_word(treebank: Path) -> None:
    second = list(read_sentences(treebank))[1]
    assert [word.form for word in second.words][-3:] == ["500", "wounded", "."]
    assert [word.head for word in second.words] == [2, 4, 4, 0, 6, 4, 6, 4]


def test_a_sentence_knows_its_document(treebank: Path) -> None:
    assert [sentence.document for sentence in read_sentences(treebank)] == ["weblog-a", "weblog-a", "weblog-b"]


def test_entities_come_from_misc(treebank: Path) -> None:
    assert [word.entity for word in list(read_sentences(treebank))[2].words] == ["B-ORG", "O"]


def test_a_compressed_file_reads_the_same(treebank: Path) -> None:
    packed = treebank.with_suffix(".conllu.gz")
    packed.write_bytes(gzip.compress(treebank.read_bytes()))
    plain = list(read_sentences(treebank))
    assert list(read_sentences(packed)) == plain
    treebank.unlink()
    assert list(read_sentences(treebank)) == plain  # found by its name without .gz


def test_a_row_with_too_few_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.conllu"
    path.write_text("# sent_id = x\n1\tword\tword\n\n", encoding="utf8")
    with pytest.raises(ValueError, match=r"bad\.conllu:2: expected the 10 tab-separated columns of CoNLL-U, but got 3"):
        list(read_sentences(path))


def test_a_head_beyond_the_sentence_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.conllu"
    path.write_text("1\tword\tword\tNOUN\tNN\t_\t7\tnsubj\t_\t_\n\n", encoding="utf8")
    with pytest.raises(ValueError, match="the head of 'word' is 7, but there are 1 words"):
        list(read_sentences(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(read_sentences(tmp_path / "nowhere.conllu"))
