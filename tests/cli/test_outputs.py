"""Outputs that cannot be written are told before the work; what was computed is not lost where one fails in the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacy_electra.cli.outputs import check_folder, check_json

Invoke = Callable[..., Any]

FULL = Path("/dev/full")  # takes no byte
needs_full = pytest.mark.skipif(not FULL.exists(), reason="the system has no device that is full")


@needs_full
def test_scores_that_cannot_be_written_are_printed(run_command: Invoke, run_dir: Path, store_dir: Path) -> None:
    result = run_command("evaluate", run_dir, store_dir, "--json", FULL)
    assert result.exit_code == 1
    assert "/dev/full cannot be written" in result.stdout
    printed = json.loads(result.stdout[result.stdout.index("\n{\n") :])
    assert printed["scores"].keys() >= {"generator_loss", "auc"}


def test_a_file_that_is_there_stays_until_its_content_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("old")
    check_json(tmp_path / "scores.json")
    check_json(tmp_path / "new" / "scores.json")
    assert (tmp_path / "scores.json").read_text() == "old"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_is_not_made_when_it_is_tried(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write into")
@pytest.mark.parametrize("place", ["/proc/output", "file/output"])
@pytest.mark.parametrize("command", ["train-tokenizer", "tokenize", "export", "pretrain", "evaluate"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    complaint: Invoke,
    corpus_path: Path,
    tokenizer_dir: Path,
    run_dir: Path,
    store_dir: Path,
    pretrain_cfg: Path,
    tmp_path: Path,
    command: str,
    place: str,
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / place
    arguments = {
        "train-tokenizer": [corpus_path, out],
        "tokenize": [corpus_path, out, "--tokenizer", tokenizer_dir],
        "export": [run_dir, out],
        "pretrain": [pretrain_cfg, "--output", out],
        "evaluate": [run_dir, store_dir, "--json", out / "scores.json"],
    }[command]
    told = complaint(command, *arguments)
    assert str(out.parent) in told
    assert any(word in told for word in ("no such file or directory", "not a directory", "not permitted", "denied"))
