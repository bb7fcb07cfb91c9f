"""The annotated sentences in assets/ keep to their own guide (assets/README.md)."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from treebank import Sentence, Word, read_sentences

SPLITS = ("train", "dev", "test")
UPOS = frozenset(
    [
        "ADJ",
        "ADP",
        "ADV",
        "AUX",
        "CCONJ",
        "DET",
        "INTJ",
        "NOUN",
        "NUM",
        "PART",
        "PRON",
        "PROPN",
        "PUNCT",
        "SCONJ",
        "SYM",
        "VERB",
        "X",
    ]
)
RELATIONS = frozenset(
    [
        "acl",
        "acl:relcl",
        "advcl",
        "advcl:relcl",
        "advmod",
        "amod",
        "appos",
        "aux",
        "aux:pass",
        "case",
        "cc",
        "cc:preconj",
        "ccomp",
        "compound",
        "compound:prt",
        "conj",
        "cop",
        "csubj",
        "csubj:pass",
        "det",
        "det:predet",
        "discourse",
        "dislocated",
        "expl",
        "fixed",
        "flat",
        "iobj",
        "mark",
        "nmod",
        "nmod:poss",
        "nmod:unmarked",
        "nsubj",
        "nsubj:outer",
        "nsubj:pass",
        "nummod",
        "obj",
        "obl",
        "obl:agent",
        "obl:unmarked",
        "orphan",
        "parataxis",
        "punct",
        "root",
        "vocative",
        "xcomp",
    ]
)
LABELS = frozenset({"LIBRARY", "VERSION", "FUNCTION", "ERROR", "FILE", "PLATFORM", "PERSON", "ORG"})
CATEGORIES = frozenset({"bug", "feature", "question", "docs"})
VOICES = frozenset({"issue", "release", "review", "docs"})
FUNCTION_WORDS = frozenset({"aux", "aux:pass", "case", "cc", "cop", "det", "mark", "punct"})
ON_FUNCTION_WORDS = frozenset({"advmod", "cc", "conj", "fixed", "punct"})  # what may depend on a function word
FRAME = 5  # words in a row that no two sentences share


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Sentence]]:
    assets = Path(__file__).parents[2] / "assets"
    return {name: list(read_sentences(assets / f"software-{name}.conllu")) for name in SPLITS}


@pytest.fixture(scope="module")
def sentences(splits: dict[str, list[Sentence]]) -> list[Sentence]:
    return [sentence for name in SPLITS for sentence in splits[name]]


def frames_of(sentence: Sentence) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+(?:['’.\-_/]\w+)*", sentence.text.lower())
    return zip(*(words[start:] for start in range(FRAME)), strict=False)


def path_to_root(sentence: Sentence, place: int) -> list[int]:
    """Words from `place` (from 1) upwards; ends at the root, or where it would go round."""
    path = []
    while place and place not in path:
        path.append(place)
        place = sentence.words[place - 1].head
    return path


def dependents(sentence: Sentence) -> Iterator[tuple[Word, Word]]:
    """Every word but the root, with its head."""
    return ((word, sentence.words[word.head - 1]) for word in sentence.words if word.head)


def test_there_are_enough_sentences(splits: dict[str, list[Sentence]], sentences: list[Sentence]) -> None:
    assert len(sentences) >= 600
    assert len(splits["test"]) >= 120


def test_ids_are_unique(sentences: list[Sentence]) -> None:
    assert not [name for name, count in Counter(one.id for one in sentences).items() if count > 1]


def test_every_tree_has_one_root(sentences: list[Sentence]) -> None:
    roots = {one.id: [word.form for word in one.words if word.head == 0] for one in sentences}
    assert not {name: words for name, words in roots.items() if len(words) != 1}


def test_the_root_alone_is_called_root(sentences: list[Sentence]) -> None:
    wrong = [(one.id, w.form) for one in sentences for w in one.words if (w.head == 0) != (w.deprel == "root")]
    assert not wrong


def test_no_tree_goes_round(sentences: list[Sentence]) -> None:
    for one in sentences:
        for place in range(1, len(one.words) + 1):
            assert one.words[path_to_root(one, place)[-1] - 1].head == 0, (one.id, place)


def test_tags_and_relations_are_known(sentences: list[Sentence]) -> None:
    words = [word for one in sentences for word in one.words]
    assert {word.upos for word in words} <= UPOS
    assert {word.deprel for word in words} == RELATIONS


def test_punctuation_is_tagged_as_it_is_attached(sentences: list[Sentence]) -> None:
    wrong = [(one.id, w.form) for one in sentences for w in one.words if (w.upos == "PUNCT") != (w.deprel == "punct")]
    assert not wrong


def test_nothing_hangs_on_function_words(sentences: list[Sentence]) -> None:
    wrong = [
        (one.id, word.form, head.form)
        for one in sentences
        for word, head in dependents(one)
        if head.deprel in FUNCTION_WORDS and word.deprel not in ON_FUNCTION_WORDS
    ]
    assert not wrong


def test_passive_subjects_belong_to_passive_heads(sentences: list[Sentence]) -> None:
    wrong = [
        (one.id, word.form)
        for one in sentences
        for word, head in dependents(one)
        if word.deprel in {"nsubj:pass", "aux:pass"} and "Voice=Pass" not in head.feats
    ]
    assert not wrong


def test_a_comma_after_a_fronted_phrase_hangs_on_it(sentences: list[Sentence]) -> None:
    """The guide's rule: never on the head that the phrase before the comma depends on."""
    wrong = []
    for one in sentences:
        for place, word in enumerate(one.words, 1):
            if word.form == "," and word.head > place and word.head in path_to_root(one, place - 1)[1:]:
                wrong.append((one.id, place))
    assert not wrong


def test_entities_are_well_formed_and_known(sentences: list[Sentence]) -> None:
    for one in sentences:
        previous = "O"
        for word in one.words:
            kind, _, label = word.entity.partition("-")
            assert word.entity == "O" or (kind in {"B", "I"} and label in LABELS), (one.id, word.form, word.entity)
            assert kind != "I" or previous[2:] == label, (one.id, word.form, word.entity)
            previous = word.entity


def test_every_label_occurs_in_the_test_split(splits: dict[str, list[Sentence]]) -> None:
    counts = Counter(word.entity[2:] for one in splits["test"] for word in one.words if word.entity.startswith("B-"))
    assert counts.keys() == LABELS
    assert min(counts.values()) >= 8


def test_categories_and_voices_are_known_and_in_every_split(splits: dict[str, list[Sentence]]) -> None:
    for found in splits.values():
        assert {one.comments["category"] for one in found} == CATEGORIES
        assert {one.comments["voice"] for one in found} == VOICES


def test_voice_does_not_decide_the_category(sentences: list[Sentence]) -> None:
    pairs = Counter((one.comments["voice"], one.comments["category"]) for one in sentences)
    for voice in VOICES:
        counts = [pairs[voice, category] for category in CATEGORIES]
        assert max(counts) < 0.6 * sum(counts), voice


def test_forms_and_spaces_give_the_text_back(sentences: list[Sentence]) -> None:
    assert not [one.id for one in sentences if one.text != one.comments["text"]]


def test_no_sentence_occurs_twice(sentences: list[Sentence]) -> None:
    texts = Counter("".join(filter(str.isalnum, one.text.lower())) for one in sentences)
    assert not [text for text, count in texts.items() if count > 1]


def test_no_two_sentences_share_five_words_in_a_row(sentences: list[Sentence]) -> None:
    owners: dict[tuple[str, ...], str] = {}
    for one in sentences:
        for frame in set(frames_of(one)):
            assert owners.setdefault(frame, one.id) == one.id, (one.id, owners[frame], frame)


def test_the_readme_counts_what_is_there(splits: dict[str, list[Sentence]]) -> None:
    readme = (Path(__file__).parents[2] / "assets" / "README.md").read_text(encoding="utf8")
    for name, found in splits.items():
        words = sum(len(one.words) for one in found)
        entities = sum(word.entity.startswith("B-") for one in found for word in one.words)
        assert f"| {name} | {len(found)} | {words:,} | {entities:,} |" in readme
