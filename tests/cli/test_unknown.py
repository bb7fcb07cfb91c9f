"""Pieces that a vocabulary does not know: counted, told where there are many, refused where there are too many."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy

from spacy_electra.data.store.manifest import Manifest
from spacy_electra.data.store.reader import Store

Invoke = Callable[..., Any]
CHINESE = "学生在图书馆里学习。"


@pytest.fixture(scope="module")
def foreign(electra: Invoke, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store of Chinese text in an English vocabulary, and what `tokenize` said."""
    folder = tmp_path_factory.mktemp("foreign")
    lines = [json.dumps({"text": CHINESE * 3 + f" the model {number}"}) for number in range(40)]
    (folder / "c.jsonl").write_text("\n".join(lines), encoding="utf8")
    return folder / "store", electra("tokenize", folder / "c.jsonl", folder / "store", "--tokenizer", tokenizer_dir)


def without_counts(source: Path, target: Path) -> Path:
    """A copy of a store as it was built before unknown pieces were counted."""
    shutil.copytree(source, target)
    facts = json.loads((target / "manifest.json").read_text())
    for shard in facts["shards"]:
        del shard["unknown"]
    (target / "manifest.json").write_text(json.dumps(facts))
    return target


def test_the_manifest_counts_unknown_pieces(foreign: tuple[Path, str], store_dir: Path) -> None:
    for folder in (foreign[0], store_dir):
        store = Store.open(folder)
        expected = int(np.count_nonzero(store.read(0, store.pieces) == store.manifest.special.unk))
        assert store.manifest.unknown == expected
        assert store.unknown_share() == expected / store.pieces
    assert Store.open(foreign[0]).unknown_share() > 0.8 > 0.01 > Store.open(store_dir).unknown_share()


def test_an_older_store_without_the_count_is_read_and_counted(foreign: tuple[Path, str], tmp_path: Path) -> None:
    old = Store.open(without_counts(foreign[0], tmp_path / "old"))
    assert old.manifest.unknown is None
    assert old.unknown_share() == Store.open(foreign[0]).unknown_share()
    assert old.fingerprint == Store.open(foreign[0]).fingerprint


def test_tokenize_tells_share_and_words_of_unknown_pieces(
    foreign: tuple[Path, str], electra: Invoke, store_dir: Path, corpus_path: Path, tokenizer_dir: Path
) -> None:
    assert "of the pieces are unknown" in foreign[1]
    assert "'学' 240 times" in foreign[1]
    assert "max_unknown" in foreign[1]
    assert "unknown" not in electra("tokenize", corpus_path, store_dir, "--tokenizer", tokenizer_dir)


def test_parts_and_their_join_count_and_tell_as_one_job(electra: Invoke, tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name in "ab":
        (tmp_path / "corpus" / f"{name}.txt").write_text(CHINESE, encoding="utf8")
    options = ["--tokenizer", tokenizer_dir]
    electra("tokenize", tmp_path / "corpus", tmp_path / "one", *options)
    jobs = ["tokenize", tmp_path / "corpus", tmp_path / "joined", *options, "--num-shards", 2]
    for index in range(2):
        assert "are unknown" in electra(*jobs, "--shard-index", index)
    assert "are unknown" in electra(*jobs, "--merge")
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "joined" / "manifest.json").read_bytes()
    assert Manifest.read(tmp_path / "one" / "manifest.json").unknown == 20


@pytest.mark.parametrize("is_old", [False, True])
def test_pretrain_refuses_a_store_of_unknown_pieces_unless_it_is_allowed(
    foreign: tuple[Path, str],
    electra: Invoke,
    complaint: Invoke,
    pretrain_cfg: Path,
    tiny: list[str],
    tmp_path: Path,
    is_old: bool,
) -> None:
    store = without_counts(foreign[0], tmp_path / "old") if is_old else foreign[0]
    command = ["pretrain", pretrain_cfg, "--output", tmp_path / "run", *tiny]
    for part in ("train", "dev"):
        told = complaint(*command, f"--paths.{part}", store)
        assert "are unknown ([UNK]), but [training] max_unknown allows 20.0%" in told
        assert not (tmp_path / "run").exists()
    electra(*command, "--paths.train", store, "--training.max_unknown", 1, "--training.max_steps", 1)


def test_debug_data_tells_of_unknown_pieces(foreign: tuple[Path, str], electra: Invoke, store_dir: Path) -> None:
    assert "the vocabulary does not fit this text" in electra("debug", "data", foreign[0])
    assert "does not fit" not in electra("debug", "data", store_dir)


def test_a_config_without_the_key_has_the_packaged_value(electra: Invoke, pretrain_cfg: Path, tmp_path: Path) -> None:
    text = pretrain_cfg.read_text(encoding="utf8")
    (tmp_path / "old.cfg").write_text(text.replace("max_unknown = 0.2\n", ""), encoding="utf8")
    assert "max_unknown" in text
    assert "is valid" in electra("debug", "config", tmp_path / "old.cfg")


def test_a_pipeline_tells_once_that_most_of_a_text_is_unknown(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    nlp = spacy.blank("xx")
    model = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": str(run_dir / "model-last")}
    nlp.add_pipe("transformer", config={"model": model})
    nlp.initialize()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        nlp("the model reads the file " * 10 + CHINESE)
        nlp(CHINESE[:5])
        assert "unknown" not in caplog.text
        list(nlp.pipe([CHINESE * 3, CHINESE * 3], batch_size=1))
    assert caplog.text.count("of a text are unknown") == 1
    assert "100 % of the pieces" in caplog.text
