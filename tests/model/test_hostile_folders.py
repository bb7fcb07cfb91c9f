"""Model folders and tokenizers from strangers: they load, or one ValueError says why not, at once."""

import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.pretrained import load_encoder

TINY = Path(__file__).parents[2] / "assets/electra-tiny/discriminator"
ANYTHING: list[Any] = [
    *(None, True, -1, 0, 1, 2.5, 10**7, 10**12, 2**63, 2**64, 10**400, float("nan"), float("inf"), "", "x", "\ud800"),
    *("gelu_new", [], [1], ["[CLS]", 2], {}, {"type": "Replace"}, {"type": "Sequence", "normalizers": []}),
]
CHANGED = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
REGEX = {"type": "Replace", "pattern": {"Regex": "(?:(?:a{1,1000}){1,1000}){1,1000}"}, "content": "b"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "model")
    return tmp_path / "model"


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf8")


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("normalizer", REGEX, "normalizer is Replace, expected BertNormalizer"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "normalizer is Precompiled"),
        ("normalizer", {"type": "Sequence", "normalizers": [REGEX]}, "normalizer is Sequence"),
        ("normalizer", {"type": "BertNormalizer", "lowercase": "no"}, "lowercase is 'no', expected true or false"),
        ("normalizer", {"type": "BertNormalizer", "deep": 1}, "deep is 1, expected no such key"),
        ("normalizer", 5, "normalizer is 5"),
        ("normalizer", {"type": [1]}, "normalizer is "),
        (
            "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed"},
            "pre_tokenizer is Split",
        ),
        ("decoder", {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}, "decoder is Replace"),
        ("decoder", {"type": "WordPiece", "prefix": 5, "cleanup": True}, "prefix is 5, expected a string"),
        ("post_processor", {"type": "RobertaProcessing"}, "post_processor is RobertaProcessing"),
        ("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 2**64], "cls": ["[CLS]", 2]}, "of another form"),
        ("post_processor", {"type": "TemplateProcessing", "single": [], "pair": []}, "of another form"),
        ("added_tokens", {}, "added_tokens must be a list"),
        ("added_tokens", [5], "added_tokens has 5"),
        ("added_tokens", [{"id": -1, "content": "[PAD]"}], "id is -1, expected a whole number"),
        ("added_tokens", [{"id": 0, "content": ""}], "lacks a number or a text"),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 10**9}, "is a Unigram tokenizer"),
        ("model", None, "is a NoneType tokenizer"),
    ],
)
def test_a_tokenizer_with_parts_that_are_not_berts_is_refused(folder: Path, part: str, value: Any, told: str) -> None:
    rewrite(folder / "tokenizer.json", lambda content: content.update({part: value}))
    with pytest.raises(ValueError, match=f"tokenizer.json.*{told}"):
        WordPiece.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("vocab", [], "vocab must hold pieces and their numbers"),
        ("vocab", {"a": "b"}, "vocab must hold pieces and their numbers"),
        ("vocab", {"a": True}, "vocab must hold pieces and their numbers"),
        ("vocab", {"a": 2**64}, "vocab must hold pieces and their numbers"),
        ("vocab", {"a": 0, "b": 0}, "several pieces one number"),
        ("unk_token", 5, "unk_token is 5, expected a string"),
        ("max_input_chars_per_word", 10**9, "max_input_chars_per_word is 1000000000, expected 1 to 10,000"),
        ("max_input_chars_per_word", 0, "max_input_chars_per_word is 0"),
    ],
)
def test_a_vocabulary_of_another_form_is_refused(folder: Path, key: str, value: Any, told: str) -> None:
    rewrite(folder / "tokenizer.json", lambda content: content["model"].update({key: value}))
    with pytest.raises(ValueError, match=told):
        WordPiece.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("do_lower_case", "false"), ("do_lower_case", None), ("strip_accents", 1), ("tokenize_chinese_chars", None)],
)
def test_a_setting_of_the_tokenizer_that_is_no_flag_is_refused(folder: Path, key: str, value: Any) -> None:
    rewrite(folder / "tokenizer_config.json", lambda content: content.update({key: value}))
    with pytest.raises(
        ValueError, match=f"tokenizer_config.json: {key} must be true or false.*, but is {json.dumps(value)}"
    ):
        WordPiece.load(folder)


def test_what_a_tokenizer_cuts_off_is_not_asked_of_the_library(folder: Path) -> None:
    cut = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 10**9}
    rewrite(folder / "tokenizer.json", lambda content: content.update(truncation=cut, padding=5))
    assert WordPiece.load(folder).encode_ids(["a b c d"])[0].size >= 4


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "NaN", '{"a": Infinity}', "[]", "5", ""])
def test_what_is_no_json_object_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf8")
    with pytest.raises(ValueError, match=f"{name} is (broken|a) JSON"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("num_hidden_layers", 10**7, "asks for 10,000,000 layers, but there are"),
        ("num_hidden_layers", True, "num_hidden_layers must be a whole number from 1"),
        ("vocab_size", 10**12, "vocab_size must be a whole number from 1 to 16,777,216, but is 1000000000000"),
        ("vocab_size", 2**24, "word_embeddings.weight' has shape"),
        ("max_position_embeddings", 2**24, "position_embeddings.weight' has shape"),
        ("intermediate_size", 10**400, "intermediate_size must be a whole number from 1"),
        ("num_attention_heads", -1, "num_attention_heads must be"),
        ("num_attention_heads", 3, "config.json: width must be a multiple of heads"),
    ],
)
def test_a_config_that_asks_for_more_than_there_is_is_refused(folder: Path, key: str, value: Any, told: str) -> None:
    rewrite(folder / "config.json", lambda content: content.update({key: value}))
    with pytest.raises(ValueError, match=told):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {key: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for key in "ab"},
        {"a": {"dtype": "what", "shape": [2], "data_offsets": [0, 8]}},
        {"a": 5},
        [],
    ],
    ids=range(6),
)
def test_weights_that_lie_nowhere_are_named(folder: Path, header: Any) -> None:
    text = json.dumps(header).encode("utf8")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read as weights"):
        load_encoder(str(folder))


def test_a_header_of_weights_longer_than_its_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read as weights"):
        load_encoder(str(folder))


def test_old_weights_that_are_one_number_a_million_times_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1).expand(10**12)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin claims 4,000,000,000,000 bytes of tensors"):
        load_encoder(str(folder))


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file({**weights, name: weights[name].to(torch.int8)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"word_embeddings.weight' is of the type torch.int8, expected floating point"):
        load_encoder(str(folder))


def mutated(content: Any, chance: random.Random) -> Any:
    """The same with one value, somewhere, in place of another."""
    if isinstance(content, dict | list) and content and chance.random() < 0.9:
        key = chance.choice(list(content) if isinstance(content, dict) else range(len(content)))
        changed = dict(content) if isinstance(content, dict) else list(content)
        changed[key] = mutated(content[key], chance)
        return changed
    return chance.choice(ANYTHING)


def try_mutations(folder: Path, *, seed: int, count: int) -> int:
    """Load a folder so often with one file changed; how many loaded. Anything but a ValueError gets out."""
    chance, loaded = random.Random(seed), 0
    whole = {name: (folder / name).read_bytes() for name in CHANGED}
    for _ in range(count):
        name = chance.choice(CHANGED)
        head, text, rest = parts_of(name, whole[name])
        text = json.dumps(mutated(json.loads(text), chance)).encode("utf8")
        head = struct.pack("<Q", len(text)) if head else b""
        (folder / name).write_bytes(head + text + rest)
        with suppress(ValueError):
            load_encoder(str(folder))[1].encode(["some text"])
            loaded += 1
        (folder / name).write_bytes(whole[name])
    return loaded


def parts_of(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before its JSON, the JSON, and what stands behind."""
    if name != "model.safetensors":
        return b"", content, b""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return content[:8], content[8:end], content[end:]


def test_one_value_in_place_of_another_loads_or_is_refused(folder: Path) -> None:
    assert 0 < try_mutations(folder, seed=1, count=60) < 60


LIMITED = """
import resource, sys
from pathlib import Path
from tests.model.test_hostile_folders import try_mutations
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try_mutations(Path(sys.argv[1]), seed=int(sys.argv[2]), count=1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")
@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_values_in_place_of_others_need_little_memory_and_time(folder: Path, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, folder, str(seed)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
