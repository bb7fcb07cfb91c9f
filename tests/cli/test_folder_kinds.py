"""Folders that commands write into: what is there stays what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacy_electra.cli.folder_kinds import kind_of

Invoke = Callable[..., Any]
Make = dict[str, tuple[object, ...]]


@pytest.fixture(scope="module")
def folders(
    electra: Invoke, run_dir: Path, store_dir: Path, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    model = tmp_path_factory.mktemp("model") / "encoder"
    electra("export", run_dir, model)
    return {"run": run_dir, "token store": store_dir, "tokenizer": tokenizer_dir, "model": model}


@pytest.fixture(scope="module")
def writers(corpus_path: Path, tokenizer_dir: Path, run_dir: Path, pretrain_cfg: Path) -> Make:
    """Commands by what they write, the folder left out; --overwrite would replace what is of their own kind."""
    return {
        "token store": ("tokenize", corpus_path, "--overwrite", "--tokenizer", tokenizer_dir),
        "tokenizer": ("train-tokenizer", corpus_path, "--overwrite", "--vocab-size", 90),
        "run": ("pretrain", pretrain_cfg, "--output"),
        "model": ("export", run_dir, "--overwrite"),
    }


def test_a_folder_is_known_by_what_is_in_it(folders: dict[str, Path], tmp_path: Path):
    assert {kind: kind_of(folder) for kind, folder in folders.items()} == {kind: kind for kind in folders}
    assert kind_of(tmp_path) is None


@pytest.mark.parametrize("there", ["run", "token store", "tokenizer", "model"])
@pytest.mark.parametrize("wanted", ["run", "token store", "tokenizer", "model"])
def test_no_command_writes_into_the_folder_of_something_else(
    complaint: Invoke, folders: dict[str, Path], writers: Make, there: str, wanted: str
):
    if there == wanted or (there, wanted) == ("tokenizer", "model"):
        return
    before = sorted(path.name for path in folders[there].iterdir())
    message = complaint(*writers[wanted], folders[there])
    assert f"is the folder of a {there}, so no {wanted} can go there" in message or "holds a run" in message
    assert sorted(path.name for path in folders[there].iterdir()) == before


def test_evaluate_says_that_store_and_run_are_in_the_wrong_order(complaint: Invoke, store_dir: Path, run_dir: Path):
    message = complaint("evaluate", store_dir, run_dir)
    assert "is a token store, expected a run or a model: give that first, the store behind it" in message
