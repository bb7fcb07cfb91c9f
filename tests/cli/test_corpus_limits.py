"""--max-document-mb and --max-window-mb of the commands that read a corpus."""

import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_electra.cli.errors import clear_errors

Invoke = Callable[..., Any]


def commands(tokenizer_dir: Path, corpus: Path, out_dir: Path) -> list[tuple[object, ...]]:
    return [
        ("debug", "data", corpus),
        ("tokenize", corpus, out_dir, "--tokenizer", tokenizer_dir),
        ("train-tokenizer", corpus, out_dir, "--vocab-size", 30),
    ]


@pytest.mark.parametrize("number", range(3), ids=["debug data", "tokenize", "train-tokenizer"])
def test_a_document_that_is_too_large_is_a_fault_unless_the_limit_is_raised(
    electra: Invoke, complaint: Invoke, tokenizer_dir: Path, tmp_path: Path, number: int
):
    path = tmp_path / "a.jsonl"
    lines = ["a tensor " * 10, "a small file " * 200]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in lines), encoding="utf8")
    command = commands(tokenizer_dir, path, tmp_path / "out")[number]
    message = complaint(*command, "--max-document-mb", 0.002, "--max-faults", 0)
    assert f"{path}:2: a document of more than 0.002 MB: cut it, or allow more with --max-document-mb" in message
    electra(*command, "--max-document-mb", 0.003, "--max-faults", 0)


@pytest.mark.parametrize("number", range(3), ids=["debug data", "tokenize", "train-tokenizer"])
def test_a_large_window_is_refused_unless_the_limit_is_raised(
    electra: Invoke, complaint: Invoke, tokenizer_dir: Path, tmp_path: Path, number: int
):
    path = tmp_path / "a.txt.xz"
    path.write_bytes(lzma.compress(b"a tensor", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}]))
    command = commands(tokenizer_dir, path, tmp_path / "out")[number]
    assert "needs more than 128 MB to be unpacked" in complaint(*command)
    electra(*command, "--max-window-mb", 256)


def test_a_spacy_file_that_unpacks_beyond_memory_is_refused_before_it_is_read(
    electra: Invoke, complaint: Invoke, tmp_path: Path
):
    path = tmp_path / "a.spacy"
    DocBin(docs=[spacy.blank("en")("a tensor " * 400)]).to_disk(path)
    message = complaint("debug", "data", path, "--max-document-mb", 0.001)
    assert f"{path} unpacks to more than 0.02 MB, which spaCy reads at once" in message
    assert "documents 1" in electra("debug", "data", path)
    path.write_bytes(zlib.compress(bytes(30_000_000)))
    assert "unpacks to more than 20 MB" in complaint("debug", "data", path, "--max-document-mb", 1)


@pytest.mark.parametrize(("text", "is_said"), [("Это другой язык. ", True), ("a small file. ", False)])
def test_a_vocabulary_that_does_not_know_the_text_is_warned_of(
    electra: Invoke, tokenizer_dir: Path, tmp_path: Path, text: str, is_said: bool
):
    (tmp_path / "a.txt").write_text(text * 20, encoding="utf8")
    told = electra("tokenize", tmp_path / "a.txt", tmp_path / "store", "--tokenizer", tokenizer_dir)
    assert ("of the pieces are unknown ([UNK])" in told) is is_said


def test_a_command_that_runs_out_of_memory_says_so_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    @clear_errors
    def command() -> None:
        bytearray(1 << 62)

    with pytest.raises(BaseException, match="1"):
        command()
    assert "Memory ran out" in capsys.readouterr().err
