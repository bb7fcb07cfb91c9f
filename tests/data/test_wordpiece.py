"""The vocabulary: the pieces of Hugging Face's tokenizer, the same however it is saved, learned without chance."""

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import ElectraTokenizer, ElectraTokenizerFast

from spacy_electra.data.batch import Special
from spacy_electra.data.tokenizer.files import parse_tokenizer
from spacy_electra.data.tokenizer.wordpiece import WordPiece, train_wordpiece

ENGLISH = [
    "The generator proposes tokens; the discriminator tells which tokens were replaced.",
    "A café in Zürich, a naïve façade, and the Ångström unit: accents everywhere.",
    "Installing numpy 1.26 fails with ImportError on Python 3.12 (error code #4711).",
    "Transformers transform transformed transformations; tokenizers tokenize tokenized tokenization.",
]
CHINESE = ["北京大学的学生在图书馆里学习。", "我们在学校学习中文和数学。", "学生学习, students study."]
TEXTS = (ENGLISH + CHINESE) * 3
DIFFICULT = [
    "",
    " \t\n\r\u00a0\u3000\u2028",
    "Tokens tokenized THE café CAFÉ cafe\u0301 ÅNGSTRÖM naïve",
    "北京 students学习中文,数学。",
    "😀👩‍👩‍👧‍👦 ok 🇨🇭",
    "zero\u200bwidth \u200b\ufeff soft\u00adhyphen \x00\x01\ufffd end",
    "a" * 101 + " " + "b" * 100 + " tokens",
    "İstanbul ẞ ﬁ Ǆ ΑΣ",
    "don't e.g. 3.14 #4711 $5 a_b [x] ##ing ~^`",
    "\u0301\u0301 x\u0301",
    "ไทย हिन्दी العربية עִבְרִית 한국어 日本語",
    "\U00020000\U0002f800 plane two",
]
SETTINGS = [(cased, accents) for cased in (False, True) for accents in (None, False, True)]


@pytest.fixture(scope="module")
def uncased() -> WordPiece:
    return train_wordpiece(TEXTS, vocab_size=220, cased=False, strip_accents=None)


def pieces_of(tokenizer: WordPiece, text: str) -> list[str]:
    return [tokenizer.vocabulary[piece] for piece in tokenizer.encode([text])[0].ids]


def without(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).unlink()
    return directory


@pytest.mark.parametrize(("cased", "strip_accents"), SETTINGS)
def test_pieces_and_offsets_are_those_of_hugging_face(tmp_path: Path, cased: bool, strip_accents: bool | None) -> None:
    tokenizer = train_wordpiece(TEXTS, vocab_size=220, cased=cased, strip_accents=strip_accents)
    tokenizer.save(tmp_path)
    reference = ElectraTokenizerFast.from_pretrained(tmp_path)
    expected = reference(TEXTS + DIFFICULT, add_special_tokens=False, return_offsets_mapping=True)
    for ours, ids, offsets in zip(
        tokenizer.encode(TEXTS + DIFFICULT), expected["input_ids"], expected["offset_mapping"], strict=True
    ):
        assert ours.ids.tolist() == ids
        assert [tuple(pair) for pair in ours.offsets.tolist()] == offsets


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
@example(text="[MASK] tokens [SEP][mask]")
def test_any_text_has_the_pieces_of_hugging_face_told_to_split_special_tokens(uncased: WordPiece, text: str) -> None:
    reference = ElectraTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(uncased.to_json()), split_special_tokens=True
    )
    assert uncased.encode([text])[0].ids.tolist() == reference(text, add_special_tokens=False)["input_ids"]


def test_hugging_face_gets_special_pieces_length_and_case_from_the_files(tmp_path: Path) -> None:
    train_wordpiece(TEXTS, vocab_size=220, cased=True, strip_accents=True).save(tmp_path, model_max_length=128)
    for reference in (ElectraTokenizerFast.from_pretrained(tmp_path), ElectraTokenizer.from_pretrained(tmp_path)):
        assert reference.model_max_length == 128
        assert reference("")["input_ids"] == [2, 3]
        assert reference.mask_token_id == 4
        assert reference.tokenize("Café") == reference.tokenize("Cafe") != reference.tokenize("cafe")
    assert ElectraTokenizerFast.from_pretrained(tmp_path)("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("special", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
@pytest.mark.parametrize("way", ["trained", "loaded", "pickled", "from JSON"])
def test_a_special_piece_written_in_the_text_is_text(
    tmp_path: Path, uncased: WordPiece, special: str, way: str
) -> None:
    uncased.save(tmp_path)
    makers: dict[str, Callable[[], WordPiece]] = {
        "trained": lambda: uncased,
        "loaded": lambda: WordPiece.load(tmp_path),
        "pickled": lambda: pickle.loads(pickle.dumps(uncased)),
        "from JSON": lambda: WordPiece.from_json(uncased.to_json()),
    }
    pieces = makers[way]().encode([f"the {special} token"])[0]
    assert not set(pieces.ids.tolist()) & {0, 2, 3, 4}
    assert pieces.offsets[:2].tolist() == [[0, 3], [4, 5]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab\x0b\x1c\x85\u2028 é\u0301"))
)
@example(text="to\x0bken to\x85ken to\x1cken to\u3000ken to\u200bken")
def test_ids_alone_are_those_with_offsets(uncased: WordPiece, text: str) -> None:
    for _ in range(2):
        assert uncased.encode_ids([text, "the"])[0].tolist() == uncased.encode([text])[0].ids.tolist()


def test_ids_alone_are_those_with_offsets_where_a_piece_holds_a_space(uncased: WordPiece) -> None:
    tokenizer = Tokenizer.from_str(uncased.to_json())
    tokenizer.add_tokens(["replaced token"])
    extended = WordPiece.from_json(tokenizer.to_str())
    ids = extended.encode_ids(["the replaced token"])[0]
    assert ids.tolist() == extended.encode(["the replaced token"])[0].ids.tolist()
    assert ids[-1] == uncased.size == extended.size - 1


def test_ids_alone_stay_right_when_the_memory_of_words_is_full(
    uncased: WordPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy_electra.data.tokenizer.wordpiece._MOST_KNOWN", 5)
    for text in TEXTS:
        assert uncased.encode_ids([text])[0].tolist() == uncased.encode([text])[0].ids.tolist()


def test_offsets_count_characters_of_the_original_text(uncased: WordPiece) -> None:
    text = "😀 Tokens\u200b 学习 CAFÉ"
    found = [text[start:stop] for start, stop in uncased.encode([text])[0].offsets]
    assert found[0] == "😀"
    assert "".join(found[1:]) == "Tokens学习CAFÉ"


def test_arrays_have_the_declared_types_and_shapes_even_for_no_pieces(uncased: WordPiece) -> None:
    empty, some = uncased.encode([" \n", "the tokens"])
    assert (empty.ids.shape, empty.offsets.shape, len(empty)) == ((0,), (0, 2), 0)
    assert some.ids.dtype == some.offsets.dtype == np.dtype(np.int32)
    assert some.offsets.shape == (len(some), 2)
    assert uncased.encode([]) == []


def test_words_of_more_than_100_characters_are_unknown_even_of_200_000(uncased: WordPiece) -> None:
    hundred, more, huge = uncased.encode(["t" * 100, "t" * 101, "t" * 200_000])
    assert uncased.special.unk not in hundred.ids
    assert more.ids.tolist() == huge.ids.tolist() == [uncased.special.unk]
    assert huge.offsets.tolist() == [[0, 200_000]]


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ("one text", r"one str: use encode\(\[text\]\)"),
        (["fine", 3], "text 1 is a int"),
        (["fine", "x\ud83d"], "text 1 holds half of a surrogate pair at character 1"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(uncased: WordPiece, texts: list[str], complaint: str) -> None:
    for encode in (uncased.encode, uncased.encode_ids):
        with pytest.raises(ValueError, match=complaint):
            encode(texts)


def test_decode_gives_words_and_special_pieces(uncased: WordPiece) -> None:
    ids = uncased.encode(["Transformers tokenize tokens"])[0].ids
    assert uncased.decode(ids) == "transformers tokenize tokens"
    assert uncased.decode([uncased.special.cls, uncased.special.mask]) == "[CLS] [MASK]"


@pytest.mark.parametrize("kept", ["all", "vocab.txt and settings"])
@pytest.mark.parametrize(("cased", "strip_accents"), SETTINGS)
def test_a_saved_tokenizer_loads_as_the_same(
    tmp_path: Path, cased: bool, strip_accents: bool | None, kept: str
) -> None:
    tokenizer = train_wordpiece(TEXTS, vocab_size=220, cased=cased, strip_accents=strip_accents)
    other = train_wordpiece(TEXTS, vocab_size=219, cased=cased, strip_accents=strip_accents)
    tokenizer.save(tmp_path)
    loaded = WordPiece.load(tmp_path if kept == "all" else without(tmp_path, "tokenizer.json"))
    assert loaded.fingerprint == tokenizer.fingerprint != other.fingerprint
    assert (loaded.size, loaded.cased, loaded.special) == (tokenizer.size, cased, Special(0, 1, 2, 3, 4))
    assert loaded.to_json() == tokenizer.to_json()


def test_a_vocabulary_without_settings_is_uncased_as_in_hugging_face(tmp_path: Path, uncased: WordPiece) -> None:
    uncased.save(tmp_path)
    without(tmp_path, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    assert WordPiece.load(tmp_path).fingerprint == uncased.fingerprint


def test_windows_line_ends_in_a_vocabulary_do_no_harm(tmp_path: Path, uncased: WordPiece) -> None:
    (tmp_path / "vocab.txt").write_bytes("".join(f"{piece}\r\n" for piece in uncased.vocabulary).encode())
    assert WordPiece.load(tmp_path).vocabulary == uncased.vocabulary


def test_settings_overrule_tokenizer_json_as_in_hugging_face(
    tmp_path: Path, uncased: WordPiece, caplog: pytest.LogCaptureFixture
) -> None:
    uncased.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False}))
    loaded = WordPiece.load(tmp_path)
    reference = ElectraTokenizerFast.from_pretrained(tmp_path)
    assert loaded.cased
    assert loaded.encode(ENGLISH)[0].ids.tolist() == reference(ENGLISH[0], add_special_tokens=False)["input_ids"]
    assert "do_lower_case" in caplog.text


def test_truncation_and_padding_of_a_file_are_not_applied(tmp_path: Path, uncased: WordPiece) -> None:
    tokenizer = Tokenizer.from_str(uncased.to_json())
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = WordPiece.load(tmp_path)
    assert loaded.encode(ENGLISH)[0].ids.tolist() == uncased.encode(ENGLISH)[0].ids.tolist()
    assert loaded.fingerprint == uncased.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\nthe\n", r"vocab.txt lacks \[SEP\], \[MASK\]"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "'a' in line 6 and again in line 7"),
        ("tokenizer.json", "{", "tokenizer.json is broken JSON"),
        ("tokenizer.json", Tokenizer(models.BPE()).to_str(), "tokenizer.json is a BPE tokenizer, expected WordPiece"),
        (
            "tokenizer.json",
            Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).to_str(),
            r"tokenizer.json lacks \[PAD\], \[CLS\], \[SEP\], \[MASK\]",
        ),
        ("tokenizer_config.json", "{", "tokenizer_config.json is broken JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is a JSON list"),
    ],
)
def test_files_that_cannot_serve_are_refused_by_name(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=complaint):
        WordPiece.load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "BertJapaneseTokenizer"},
        {"tokenizer_class": "BertTokenizer", "word_tokenizer_type": "mecab"},
        {"tokenizer_class": "ElectraTokenizer", "subword_tokenizer_type": "character"},
    ],
)
def test_a_vocabulary_of_another_kind_of_tokenizer_is_refused(
    tmp_path: Path, uncased: WordPiece, settings: dict[str, str]
) -> None:
    uncased.save(tmp_path)
    without(tmp_path, "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json describes another tokenizer than BERT's"):
        WordPiece.load(tmp_path)


@pytest.mark.parametrize("kind", [None, "BertTokenizerFast", "ElectraTokenizer"])
def test_a_vocabulary_of_berts_tokenizer_is_read_by_any_of_its_names(
    tmp_path: Path, uncased: WordPiece, kind: str | None
) -> None:
    uncased.save(tmp_path)
    without(tmp_path, "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    assert WordPiece.load(tmp_path).vocabulary == uncased.vocabulary


def changed(tokenizer: WordPiece, change: Callable[[dict[str, Any]], None]) -> str:
    state = json.loads(tokenizer.to_json())
    change(state)
    return json.dumps(state)


NEW_PIECE = {"id": 3, "content": "the token", "special": False, "normalized": True, "lstrip": False, "rstrip": False}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: None,
        lambda state: state.update(added_tokens=state["added_tokens"][:3]),
        lambda state: state["added_tokens"].append(NEW_PIECE | {"single_word": False, "id": 220}),
        lambda state: state["added_tokens"].append(NEW_PIECE | {"single_word": True, "id": 6, "content": "a"}),
        lambda state: state["model"].update(
            unk_token="[PAD]", continuing_subword_prefix="@", max_input_chars_per_word=3
        ),
        lambda state: state["model"].pop("type"),
        lambda state: state.update(pre_tokenizer=None, post_processor=None, decoder=None, normalizer=None),
    ],
)
def test_a_tokenizer_json_is_read_as_the_library_reads_it(
    uncased: WordPiece, change: Callable[[dict[str, Any]], None]
) -> None:
    text = changed(uncased, change)
    found = parse_tokenizer(text, source="the text")
    reference = Tokenizer.from_str(text)
    assert found.tokenizer.to_str() == reference.to_str()
    assert found.numbers == reference.get_vocab(with_added_tokens=True)
    assert found.tokenizer.encode("the token of abacus").tokens == reference.encode("the token of abacus").tokens


def test_numbers_with_gaps_are_refused(uncased: WordPiece) -> None:
    text = changed(uncased, lambda state: state["model"]["vocab"].pop(uncased.vocabulary[100]))
    with pytest.raises(ValueError, match="has 219 pieces but numbers up to 219"):
        WordPiece.from_json(text)


def test_a_directory_without_tokenizer_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer, expected .* tokenizer.json or vocab.txt"):
        WordPiece.load(tmp_path)


def _fingerprint_in_worker(tokenizer: WordPiece) -> tuple[str, list[int], str]:
    pieces = tokenizer.encode(ENGLISH)[0].ids.tolist()
    return tokenizer.fingerprint, pieces, os.environ["TOKENIZERS_PARALLELISM"]


def test_a_forked_worker_gets_the_same_tokenizer_on_one_thread(
    uncased: WordPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    here = uncased.encode(ENGLISH)[0].ids.tolist()
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(_fingerprint_in_worker, uncased).result(60) == (uncased.fingerprint, here, "false")
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_training_gives_the_same_vocabulary_in_every_process() -> None:
    program = (
        "import random\n"
        "from tokenizers.normalizers import BertNormalizer\n"
        "from spacy_electra.data.tokenizer.train import learn_vocabulary\n"
        "chance = random.Random(0)\n"
        "texts = [''.join(chance.choices('abcdefghij éö学 ', k=300)) for _ in range(200)]\n"
        "settings = dict(normalizer=BertNormalizer(), limit_alphabet=None, min_frequency=2)\n"
        "print(ascii(learn_vocabulary(texts, vocab_size=500, **settings)))\n"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(3)]
    assert runs[0].stdout.count(",") == 499, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout


def test_the_special_pieces_come_first_and_the_size_is_kept(uncased: WordPiece) -> None:
    tokenizer = train_wordpiece(TEXTS, vocab_size=150, cased=False, strip_accents=None)
    assert tokenizer.vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.size == len(set(tokenizer.vocabulary)) == 150
    assert uncased.special.all == (0, 1, 2, 3, 4)


def test_frequent_words_become_pieces_and_the_most_frequent_pair_is_merged_first() -> None:
    tokenizer = train_wordpiece(["low low low lower newest newest"], vocab_size=19, cased=True, strip_accents=None)
    letters = ["e", "l", "n", "o", "r", "s", "t", "w", "##e", "##o", "##r", "##s", "##t", "##w"]
    assert tokenizer.vocabulary[5:] == letters
    more = train_wordpiece(["low low low lower newest newest"], vocab_size=21, cased=True, strip_accents=None)
    assert more.vocabulary[19:] in (["lo", "low"], ["##ow", "low"])


def test_a_text_too_small_for_the_size_gives_fewer_pieces_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = train_wordpiece(["aa aa bb"], vocab_size=1000, cased=True, strip_accents=None)
    assert tokenizer.vocabulary[5:] == ["a", "b", "##a", "##b", "aa"]
    assert "10 pieces of the 1000 asked for" in caplog.text


def test_a_size_below_the_alphabet_is_refused_with_the_least_that_works() -> None:
    texts = ["the quick brown fox jumps over the lazy dog"]
    with pytest.raises(ValueError, match=r"vocab_size=20 is too small, expected at least (\d+)") as caught:
        train_wordpiece(texts, vocab_size=20, cased=False, strip_accents=None)
    least = int(str(caught.value).split("at least ")[1].split(":")[0])
    tokenizer = train_wordpiece(texts, vocab_size=least, cased=False, strip_accents=None)
    assert tokenizer.size == least
    assert tokenizer.special.unk not in tokenizer.encode(texts)[0].ids
    with pytest.raises(ValueError, match=f"expected at least {least}"):
        train_wordpiece(texts, vocab_size=least - 1, cased=False, strip_accents=None)


def test_the_alphabet_fills_half_of_the_vocabulary_at_most() -> None:
    rare = ["".join(chr(code) for code in range(0x4E00, 0x4E00 + 400))]
    tokenizer = train_wordpiece(["的是不了在"] * 20_000 + rare, vocab_size=200, cased=False, strip_accents=None)
    assert 1 < sum(piece not in "的是不了在" for piece in tokenizer.vocabulary[5:]) <= 95
    assert tokenizer.special.unk not in tokenizer.encode(["的是不了在"])[0].ids


def test_the_alphabet_can_be_limited() -> None:
    tokenizer = train_wordpiece(["aa aa aa b b c"], vocab_size=50, cased=False, strip_accents=None, limit_alphabet=2)
    assert pieces_of(tokenizer, "aa b c") == ["aa", "b", "[UNK]"]
    with pytest.raises(ValueError, match="limit_alphabet=0"):
        train_wordpiece(["a"], vocab_size=50, cased=False, strip_accents=None, limit_alphabet=0)


def test_rare_characters_do_not_crowd_out_words() -> None:
    rare = "".join(chr(code) for code in range(0x2200, 0x2220))
    texts = ["a text of frequent letters " * 20_000, rare]
    tokenizer = train_wordpiece(texts, vocab_size=400, cased=False, strip_accents=None)
    assert not any(piece[-1] in rare for piece in tokenizer.vocabulary)


@pytest.mark.parametrize("texts", [[], [" ", "\n\u200b"]])
def test_texts_without_a_word_are_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="hold no words"):
        train_wordpiece(texts, vocab_size=100, cased=False, strip_accents=None)


def test_one_str_instead_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="texts is one str"):
        train_wordpiece("some text", vocab_size=100, cased=False, strip_accents=None)


def test_texts_may_be_a_stream() -> None:
    stream = train_wordpiece((text for text in TEXTS), vocab_size=220, cased=False, strip_accents=None)
    assert stream.fingerprint == train_wordpiece(TEXTS, vocab_size=220, cased=False, strip_accents=None).fingerprint
