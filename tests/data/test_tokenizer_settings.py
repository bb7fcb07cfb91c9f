"""A directory's tokenizer is the one that Hugging Face's AutoTokenizer makes of it, or it is refused by name."""

import json
import logging
import pickle
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, ElectraConfig, ElectraTokenizer, ElectraTokenizerFast

from spacy_electra.data.store.tokenize import PART_CHARACTERS, encode_texts
from spacy_electra.data.tokenizer.wordpiece import WordPiece

BASIC = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghilmnoprtuvwxyéE1234567890[]/<>#_-.,Ca"
PIECES = [*BASIC, "call", "red", "lamp", "café", "cafe", "Red", "##s", "now", "赤", "い", "##い", "灯", "e1", "x"]
TEXTS = [
    "call [E1] lamp [/E1] now",
    "call[E1]lamp",
    "Call  [E1]  Red CAFÉ café",
    "new_tok new_token xnew_tok new_tokx New_Tok NEW_TOK",
    "赤い灯 lamps",
    "call\x00 la\x85mp\u200b [e1] \ufffd",
    "x" * 101 + " [E1] " + "x" * 100,
    " [E1]\t[E1][/E1]\n",
    "two words and two  words",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with vocab.txt and config.json."""
    pieces = dict.fromkeys([*PIECES, *LETTERS, *(f"##{letter}" for letter in LETTERS)])
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf8")
    ElectraConfig(vocab_size=len(pieces)).save_pretrained(tmp_path)
    return tmp_path


def write(path: Path, **values: Any) -> None:
    """Change the JSON object in a file."""
    old = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    path.write_text(json.dumps(old | values), encoding="utf8")


def assert_equal_to_hugging_face(folder: Path) -> WordPiece:
    ours, theirs = WordPiece.load(folder), AutoTokenizer.from_pretrained(folder)
    expected = theirs(TEXTS, add_special_tokens=False, return_offsets_mapping=True)
    for way in (ours, pickle.loads(pickle.dumps(ours))):
        for text, pieces, ids, ids_alone, offsets in zip(
            TEXTS,
            way.encode(TEXTS),
            expected["input_ids"],
            way.encode_ids(TEXTS),
            expected["offset_mapping"],
            strict=True,
        ):
            assert pieces.ids.tolist() == ids_alone.tolist() == ids, text
            assert [tuple(pair) for pair in pieces.offsets.tolist()] == offsets, text
    assert ours.size == len(theirs)
    return ours


def assert_saved_as_the_same(ours: WordPiece, folder: Path) -> None:
    """A saved copy is read as the same by us and by Hugging Face."""
    ours.save(folder)
    assert WordPiece.load(folder).fingerprint == ours.fingerprint
    theirs = ElectraTokenizerFast.from_pretrained(folder)(TEXTS, add_special_tokens=False)["input_ids"]
    assert [pieces.ids.tolist() for pieces in ours.encode(TEXTS)] == theirs


FLAGS = [
    dict(zip(("single_word", "lstrip", "rstrip", "normalized", "special"), flags, strict=True))
    for flags in product([False, True], repeat=5)
]


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "-".join(key for key, flag in flags.items() if flag))
def test_added_tokens_of_every_flag_are_matched_as_in_hugging_face(folder: Path, flags: dict[str, bool]) -> None:
    tokenizer = ElectraTokenizerFast.from_pretrained(folder)
    names = ["[E1]", "new_tok", "two words", "New_Tok"]
    tokenizer.add_tokens([AddedToken(name, **flags) for name in names], special_tokens=flags["special"])
    tokenizer.save_pretrained(folder)
    ours = assert_equal_to_hugging_face(folder)
    assert set(ours.added) == set(names)
    assert_saved_as_the_same(ours, folder / "saved")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", [ElectraTokenizer, ElectraTokenizerFast])
def test_additional_special_tokens_are_matched_however_they_are_saved(folder: Path, kind: Any, legacy: bool) -> None:
    tokenizer = kind.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", AddedToken("[/E1]", lstrip=True)]})
    tokenizer.add_tokens(["new_tok"])
    tokenizer.save_pretrained(folder, **({"legacy_format": legacy} if kind is ElectraTokenizerFast else {}))
    ours = assert_equal_to_hugging_face(folder)
    assert [ours.vocabulary[piece] for piece in ours.encode(TEXTS)[0].ids] == ["call", "[E1]", "lamp", "[/E1]", "now"]
    assert_saved_as_the_same(ours, folder / "saved")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {"[E1]": 99, "new_tok": 98}),
        ("special_tokens_map.json", {"additional_special_tokens": ["[E1]", {"content": "[/E1]", "rstrip": True}]}),
        ("special_tokens_map.json", {"bos_token": "[E1]", "eos_token": {"content": "[/E1]", "lstrip": True}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["[E1]", "e1", "two words"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"99": {"content": "[E1]"}, "98": {"content": "new_tok"}}}),
        ("tokenizer_config.json", {"extra_special_tokens": {"start_token": "[E1]"}}),
        ("tokenizer_config.json", {"bos_token": "[E1]", "unk_token": "[UNK]", "never_split": ["[/E1]"]}),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_tokens_are_added_by_each_file_that_may_name_them(
    folder: Path, name: str, content: dict[str, Any], whole: bool
) -> None:
    if whole:
        ElectraTokenizerFast.from_pretrained(folder).save_pretrained(folder)
        for made in ("tokenizer_config.json", "special_tokens_map.json"):
            (folder / made).unlink()
    write(folder / name, **content)
    ours = assert_equal_to_hugging_face(folder)
    assert "[E1]" in ours.added
    assert_saved_as_the_same(ours, folder / "saved")


def test_the_older_files_do_not_count_beside_added_tokens_decoder(folder: Path) -> None:
    write(folder / "added_tokens.json", new_tok=90)
    write(folder / "special_tokens_map.json", additional_special_tokens=["[E1]"])
    write(folder / "tokenizer_config.json", added_tokens_decoder={"90": {"content": "two words"}})
    assert assert_equal_to_hugging_face(folder).added == ("two words",)


def test_special_tokens_stay_text_where_the_settings_say_so(folder: Path) -> None:
    write(folder / "tokenizer_config.json", additional_special_tokens=["[E1]"], split_special_tokens=True)
    ours = assert_equal_to_hugging_face(folder)
    assert ours.added == ()
    assert_saved_as_the_same(ours, folder / "saved")


@pytest.mark.parametrize("flags", [{"lstrip": True, "special": True}, {"special": False, "normalized": True}])
def test_the_five_special_pieces_stay_text_beside_added_tokens(folder: Path, flags: dict[str, bool]) -> None:
    decoder = {"4": {"content": "[MASK]", **flags}, "90": {"content": "[E1]", "special": True}}
    write(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    ours = WordPiece.load(folder)
    pieces = [ours.vocabulary[piece] for piece in ours.encode(["a [MASK] [E1] [SEP]"])[0].ids]
    assert "[E1]" in pieces
    assert not set(pieces) & {"[MASK]", "[SEP]"}


def test_a_long_text_is_not_cut_inside_a_token_with_a_space(folder: Path) -> None:
    write(folder / "tokenizer_config.json", additional_special_tokens=["two words"])
    ours = WordPiece.load(folder)
    text = "x" * (PART_CHARACTERS - 3) + " two words " + "call " * 10
    assert ours.vocabulary.index("two words") in encode_texts(ours, [text])[0]
    assert encode_texts(ours, [text])[0].tolist() == ours.encode([text])[0].ids.tolist()


CASES = list(product([None, True, False], [..., None, True, False], [None, False]))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["BertTokenizerFast", None])
def test_case_and_accents_are_those_of_the_settings_even_where_files_contradict(
    folder: Path, kind: str | None, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if whole:
        ElectraTokenizerFast.from_pretrained(folder, do_lower_case=False, strip_accents=True).save_pretrained(folder)
    for lower, accents, chinese in CASES:
        given = {"do_lower_case": lower, "strip_accents": accents, "tokenize_chinese_chars": chinese}
        settings = {key: value for key, value in given.items() if value is not None or key == "strip_accents"}
        settings = {key: value for key, value in settings.items() if value is not ...}
        settings |= {"tokenizer_class": kind} if kind else {}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        assert_equal_to_hugging_face(folder)


def test_a_default_of_hugging_face_that_overrules_tokenizer_json_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ElectraTokenizerFast.from_pretrained(folder, do_lower_case=False).save_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert not assert_equal_to_hugging_face(folder).cased
    assert "'do_lower_case': True" in caplog.text


def test_a_plain_fast_tokenizer_does_what_its_tokenizer_json_says(folder: Path) -> None:
    ElectraTokenizerFast.from_pretrained(folder, do_lower_case=False).save_pretrained(folder)
    write(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True)
    assert assert_equal_to_hugging_face(folder).cased


def test_an_added_token_that_contradicting_settings_would_hide_is_refused(folder: Path) -> None:
    tokenizer = ElectraTokenizerFast.from_pretrained(folder, do_lower_case=False)
    tokenizer.add_tokens(["Name", "name"])
    tokenizer.save_pretrained(folder)
    assert_equal_to_hugging_face(folder)
    write(folder / "tokenizer_config.json", do_lower_case=True)
    with pytest.raises(ValueError, match=r"tokenizer.json and its tokenizer_config.json differ in case.* 'Name'"):
        WordPiece.load(folder)


def both_forms(folder: Path, change: Callable[[Path], None]) -> list[Path]:
    """The folder with vocab.txt alone, and one with tokenizer.json, both changed."""
    whole = folder / "whole"
    ElectraTokenizerFast.from_pretrained(folder).save_pretrained(whole)
    (whole / "config.json").write_text((folder / "config.json").read_text())
    for place in (folder, whole):
        change(place)
    return [folder, whole]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "config.json describes another tokenizer"),
        ("config.json", {"model_type": "roformer"}, "config.json describes another tokenizer.*model_type=roformer"),
        ("config.json", {"auto_map": {"AutoTokenizer": ["a.T", None]}}, "config.json has auto_map .*code of its own"),
        ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_config.json describes ano"),
        ("tokenizer_config.json", {"tokenizer_class": "RoFormerTokenizerFast"}, "tokenizer_class=RoFormerTokenizer"),
        ("tokenizer_config.json", {"auto_map": ["a.T", None]}, "tokenizer_config.json has auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a.T", None]}}, "tokenizer_config.json has auto_map"),
        ("tokenizer_config.json", {"word_tokenizer_type": "mecab"}, "word_tokenizer_type=mecab"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, "several tokenizers"),
        ("tokenizer_config.json", {"do_lower_case": "false"}, 'do_lower_case must be true or false, but is "false"'),
        ("tokenizer_config.json", {"do_lower_case": None}, "do_lower_case must be true or false, but is null"),
        ("tokenizer_config.json", {"strip_accents": 0}, "strip_accents must be true or false, or null, but is 0"),
        ("tokenizer_config.json", {"unk_token": "<unk>"}, r"unk_token is '<unk>' .*expected '\[UNK\]'"),
        ("tokenizer_config.json", {"cls_token": {"content": "<s>"}}, r"cls_token is '<s>' .*expected '\[CLS\]'"),
        ("tokenizer_config.json", {"added_tokens_decoder": ["[E1]"]}, "added_tokens_decoder must be an object"),
        ("tokenizer_config.json", {"additional_special_tokens": [3]}, "expected a token as a text .* but got 3"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "a", "lstrip": 1}}}, "lstrip of the tok"),
    ],
)
def test_another_tokenizer_is_refused_by_file_and_key(
    folder: Path, name: str, content: dict[str, Any], complaint: str
) -> None:
    def change(place: Path) -> None:
        config = place / "tokenizer_config.json"
        if name == "config.json" and config.is_file():
            settings = json.loads(config.read_text())
            config.write_text(json.dumps({key: settings[key] for key in settings if key != "tokenizer_class"}))
        write(place / name, **content)

    for place in both_forms(folder, change):
        with pytest.raises(ValueError, match=complaint):
            WordPiece.load(place)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize(("content", "complaint"), [("{", "is broken JSON"), ("[]", "is a JSON list")])
def test_a_broken_file_of_tokens_is_named(folder: Path, name: str, content: str, complaint: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} {complaint}"):
        WordPiece.load(folder)


def test_an_older_file_with_another_name_for_a_special_piece_is_refused(folder: Path) -> None:
    write(folder / "special_tokens_map.json", mask_token="<mask>")
    with pytest.raises(ValueError, match=r"mask_token is '<mask>' in .*special_tokens_map.json"):
        WordPiece.load(folder)


def test_the_class_in_tokenizer_config_counts_more_than_that_in_config(folder: Path) -> None:
    write(folder / "config.json", tokenizer_class="BertJapaneseTokenizer")
    write(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    assert_equal_to_hugging_face(folder)


def test_a_runs_model_folder_stands_for_the_tokenizer_of_its_discriminator(folder: Path, tmp_path: Path) -> None:
    folder = folder.rename(tmp_path.parent / "discriminator")
    model = tmp_path.parent / "run" / "model-last"
    model.mkdir(parents=True)
    folder = folder.rename(model / "discriminator")
    assert WordPiece.load(model).fingerprint == WordPiece.load(folder).fingerprint
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer.* give .*model-last/discriminator"):
        WordPiece.load(model.parent)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*/nowhere"):
        WordPiece.load(model / "nowhere")
