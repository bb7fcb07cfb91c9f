"""`pretrain` on several stores: what [corpora] may say, what a run makes of it, and how it goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from spacy.util import load_config

from spacy_electra.cli.corpora import mixed_counts
from spacy_electra.cli.run_setup import make_context, open_data
from spacy_electra.cli.settings import read_pretraining_config
from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.store.reader import Store
from spacy_electra.model.init.biases import piece_counts
from spacy_electra.training.schema import Corpus

Invoke = Callable[..., Any]
Write = Callable[..., Path]

EACH_STEP = ["--training.checkpoint_minutes", "1e-9", "--training.keep_checkpoints", "9"]


@pytest.fixture(scope="session")
def general_dirs(electra: Invoke, work: Path, tokenizer_dir: Path) -> list[Path]:
    """Two stores of text that the main one has not."""
    folders = []
    for number, words in enumerate(("a file returns the tensor", "large library writes not a row")):
        texts = [json.dumps({"text": f"{words} {words} {document}"}) for document in range(30)]
        path = work / f"general{number}.jsonl"
        path.write_text("\n".join(texts) + "\n", encoding="utf8")
        electra("tokenize", path, work / f"general{number}", "--tokenizer", tokenizer_dir)
        folders.append(work / f"general{number}")
    return folders


@pytest.fixture
def write_cfg(pretrain_cfg: Path, tmp_path: Path) -> Write:
    """Write the config with a section [corpora] of these lines."""

    def write(*lines: str) -> Path:
        path = tmp_path / "mixed.cfg"
        path.write_text("\n".join([pretrain_cfg.read_text(encoding="utf8"), "[corpora]", *lines, ""]), encoding="utf8")
        return path

    return write


@pytest.fixture
def mixed_cfg(write_cfg: Write, general_dirs: list[Path]) -> Path:
    return write_cfg("[corpora.general]", f'path = "{general_dirs[0]}"', "weight = 0.5")


@pytest.fixture(scope="module")
def mixed_run(electra: Invoke, work: Path, pretrain_cfg: Path, general_dirs: list[Path], tiny: list[str]) -> Path:
    """A finished run of four steps on two stores, with a checkpoint of each step."""
    path = work / "mixed.cfg"
    section = ["[corpora]", "[corpora.general]", f'path = "{general_dirs[0]}"', "weight = 0.5", ""]
    path.write_text("\n".join([pretrain_cfg.read_text(encoding="utf8"), *section]), encoding="utf8")
    electra("pretrain", path, "--output", work / "mixed", *tiny, *EACH_STEP)
    return work / "mixed"


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / (run / "latest").read_text(encoding="utf8").strip()
    return load_file(folder / "weights.safetensors") | load_file(folder / "optimizer.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    weights, others = weights_of(one), weights_of(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


# What a run makes of it


def test_an_empty_section_changes_no_bit(
    electra: Invoke, write_cfg: Write, tiny: list[str], run_dir: Path, tmp_path: Path
) -> None:
    electra("pretrain", write_cfg(), "--output", tmp_path / "run", *tiny)
    assert_same_run(tmp_path / "run", run_dir)


def test_rows_are_mixed_and_the_dev_set_stays_that_of_train(mixed_cfg: Path, store_dir: Path) -> None:
    settings = read_pretraining_config(mixed_cfg, {"model.window": 16})
    context = make_context(settings, open_data(settings), torch.device("cpu"), is_new=False)
    assert isinstance(context.train, Mixture)
    assert context.train.shares == pytest.approx([2 / 3, 1 / 3])
    store = Store.open(store_dir)
    split = split_documents(store, seed=0)
    own, dev = (Packing(store, ranges, window=16, seed=0) for ranges in (split.train, split.dev))
    assert context.train.rows == -(-own.rows * 3 // 2)
    assert torch.equal(context.train.batch(0, 6).ids[[0, 1, 3, 4]], own.batch(0, 4).ids)
    assert torch.equal(context.dev.batch(0, dev.rows).ids, dev.batch(0, dev.rows).ids)


def test_epochs_are_those_of_train(mixed_cfg: Path) -> None:
    settings = read_pretraining_config(mixed_cfg, {"training.max_epochs": 2.0})
    context = make_context(settings, open_data(settings), torch.device("cpu"), is_new=False)
    assert context.budget.rows == 2 * context.train.rows


def test_pieces_of_all_stores_count_by_weight(general_dirs: list[Path]) -> None:
    store = Store.open(general_dirs[0])
    counts, corpora = np.zeros(120, dtype=np.int64), {"general": Corpus(path="general", weight=0.5)}
    others = piece_counts(store, 120)
    counts[absent := int(others.argmin())] = 60
    together = mixed_counts(counts, {"general": store}, corpora)
    assert others[absent] == 0
    assert together[absent] == 60
    assert together.sum() == pytest.approx(90)
    assert np.allclose(together - counts, 30 / store.pieces * others)
    assert mixed_counts(counts, {}, {}) is counts


def test_a_fresh_run_starts_from_all_stores(
    electra: Invoke, mixed_cfg: Path, tiny: list[str], run_dir: Path, tmp_path: Path
) -> None:
    printed = electra("pretrain", mixed_cfg, "--output", tmp_path / "run", *tiny)
    assert "Rows come from train 66.7%, general 33.3%; epochs are those of train" in printed
    assert "train 66.7%, general 33.3%" in (tmp_path / "run" / "model-last" / "README.md").read_text(encoding="utf8")
    assert load_config(tmp_path / "run" / "resolved.cfg")["data"].keys() == {"train", "dev", "general"}
    assert not torch.equal(weights_of(tmp_path / "run")["masked_head.bias"], weights_of(run_dir)["masked_head.bias"])


def test_evaluate_reads_no_store_but_the_one_that_is_given(
    electra: Invoke, mixed_run: Path, store_dir: Path, tmp_path: Path
) -> None:
    config = mixed_run / "config.cfg"
    shutil.copytree(mixed_run, tmp_path / "run")
    text = config.read_text(encoding="utf8").replace("general0", "gone")
    (tmp_path / "run" / "config.cfg").write_text(text, encoding="utf8")
    assert "auc" in electra("evaluate", tmp_path / "run", store_dir)


def test_debug_config_tells_the_shares_and_what_is_not_there_yet(electra: Invoke, mixed_cfg: Path) -> None:
    printed = electra("debug", "config", mixed_cfg, "--corpora.general.path", "nowhere", "--corpora.general.weight", 1)
    assert "train 50.0%, general 50.0%" in printed
    assert "corpora.general.path: there is no nowhere yet." in printed


# Resumed


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    electra: Invoke, mixed_cfg: Path, mixed_run: Path, tiny: list[str], tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(mixed_run, again)
    (again / "latest").write_text("step-00000002\n", encoding="utf8")
    printed = electra("pretrain", mixed_cfg, "--output", again, "--resume", *tiny, *EACH_STEP)
    assert "Resuming at step 2" in printed
    assert_same_run(again, mixed_run)


def test_a_corpus_may_have_moved_since(
    electra: Invoke, mixed_cfg: Path, mixed_run: Path, tiny: list[str], general_dirs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(general_dirs[0], tmp_path / "moved")
    command = ["pretrain", mixed_cfg, "--output", mixed_run, "--resume", *tiny, *EACH_STEP]
    assert "nothing to do" in electra(*command, "--corpora.general.path", tmp_path / "moved")


def test_other_weights_and_other_text_are_refused_when_a_run_goes_on(
    complaint: Invoke, mixed_cfg: Path, mixed_run: Path, tiny: list[str], general_dirs: list[Path]
) -> None:
    command = ["pretrain", mixed_cfg, "--output", mixed_run, "--resume", *tiny, *EACH_STEP]
    told = complaint(*command, "--corpora.general.weight", 0.25)
    assert f"the run in {mixed_run} was begun with corpora.general.weight = 0.5, but now it is 0.25" in told
    told = complaint(*command, "--corpora.general.path", general_dirs[1])
    assert f"with corpora.general.path = other text, but now it is {general_dirs[1]} (30 documents, " in told


def test_a_corpus_that_was_added_or_removed_is_refused_when_a_run_goes_on(
    complaint: Invoke, mixed_cfg: Path, pretrain_cfg: Path, mixed_run: Path, run_dir: Path, tiny: list[str]
) -> None:
    told = complaint("pretrain", pretrain_cfg, "--output", mixed_run, "--resume", *tiny, *EACH_STEP)
    assert "was begun with a section [corpora.general], but now there is none" in told
    told = complaint("pretrain", mixed_cfg, "--output", run_dir, "--resume", *tiny)
    assert "was begun with no section [corpora.general], but now there is one" in told


# Mistakes


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["[corpora.general]", "weight = 0.5"], "[corpora.general] lacks the key 'path': add a line path = ... to it"),
        (
            ["[corpora.general]", 'path = "a"'],
            "[corpora.general] lacks the key 'weight': add a line weight = ... to it",
        ),
        (
            ["[corpora.general]", 'path = "a"', "weigth = 1.0"],
            "[corpora.general] has an unknown key 'weigth': did you mean 'weight'? Valid are path, weight.",
        ),
        (["general = 1.0"], "corpora.general must be a section [corpora.general] with path and weight, but got 1.0"),
        (["[corpora.train]", 'path = "a"', "weight = 1.0"], "[corpora.train] cannot be: the store of that name is"),
        (["[corpora.dev]", 'path = "a"', "weight = 1.0"], "the store of that name is paths.dev"),
        (
            ["[corpora.general]", 'path = "a"', "weight = 0"],
            "corpora.general.weight: input should be greater than 0, but got 0",
        ),
        (
            ["[corpora.general]", 'path = "a"', "weight = -1.0"],
            "corpora.general.weight: input should be greater than 0",
        ),
        (
            ["[corpora.general]", 'path = "a"', 'weight = "half"'],
            "corpora.general.weight: input should be a valid number",
        ),
        (["[corpora.general]", "path = null", "weight = 1"], "corpora.general.path: input should be a valid string"),
        (["[corpora.general]", 'path = "nowhere"', "weight = 1"], "nowhere holds no finished store"),
    ],
)
def test_a_mistake_is_told_by_its_name(
    complaint: Invoke, write_cfg: Write, tiny: list[str], tmp_path: Path, lines: list[str], message: str
) -> None:
    assert message in complaint("pretrain", write_cfg(*lines), "--output", tmp_path / "run", *tiny)
    assert not (tmp_path / "run").exists()


def test_the_text_of_train_or_dev_cannot_be_mixed_in(
    complaint: Invoke, mixed_cfg: Path, tiny: list[str], store_dir: Path, general_dirs: list[Path], tmp_path: Path
) -> None:
    command = ["pretrain", mixed_cfg, "--output", tmp_path / "run", *tiny]
    told = complaint(*command, "--corpora.general.path", store_dir)
    assert f"corpora.general.path = {store_dir} holds the same text as paths.train = {store_dir}" in told
    told = complaint(*command, "--paths.dev", general_dirs[0])
    assert f"holds the same text as paths.dev = {general_dirs[0]}: documents that are scored on would be" in told


def test_a_store_of_another_vocabulary_is_refused_by_its_folder(
    electra: Invoke, complaint: Invoke, mixed_cfg: Path, tiny: list[str], corpus_path: Path, tmp_path: Path
) -> None:
    electra("train-tokenizer", corpus_path, tmp_path / "tokenizer", "--vocab-size", 90)
    electra("tokenize", corpus_path, tmp_path / "other", "--tokenizer", tmp_path / "tokenizer")
    command = ["pretrain", mixed_cfg, "--output", tmp_path / "run", *tiny]
    told = complaint(*command, "--corpora.general.path", tmp_path / "other")
    assert str(tmp_path / "other") in told
    assert "vocabulary" in told


def test_a_store_of_unknown_pieces_is_refused(
    electra: Invoke, complaint: Invoke, mixed_cfg: Path, tiny: list[str], tokenizer_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "foreign.txt").write_text("学生在图书馆里学习。" * 9, encoding="utf8")
    electra("tokenize", tmp_path / "foreign.txt", tmp_path / "foreign", "--tokenizer", tokenizer_dir)
    command = ["pretrain", mixed_cfg, "--output", tmp_path / "run", *tiny]
    told = complaint(*command, "--corpora.general.path", tmp_path / "foreign")
    assert f"of the pieces in {tmp_path / 'foreign'} are unknown ([UNK])" in told
