"""What happens to a run in the middle: a disk that is full, a corpus that is gone, a signal amid an evaluation."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacy_electra.training import loop
from spacy_electra.training.checkpoint import read_checkpoint

Invoke = Callable[..., Any]

WITH_LIMIT = """
import resource, sys
from spacy_electra.cli import app
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
app()
"""
REMOVE = """
import shutil
from spacy.util import registry

@registry.loggers("test.RemovingLogger.v1")
def make(path: str):
    return lambda nlp, stdout, stderr: ((lambda info: info and shutil.rmtree(path, ignore_errors=True)), lambda: None)
"""


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes")
def test_a_file_that_cannot_be_written_ends_the_run_and_earlier_checkpoints_stay(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["pretrain", pretrain_cfg, "--output", run, *tiny]
    electra(*command)
    before = files_in(run / "checkpoints")
    longer = [*command, "--resume", "--training.max_steps", 8]
    limited = [sys.executable, "-c", WITH_LIMIT, "4096", *map(str, longer)]
    failed = subprocess.run(limited, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "file too large. The system allows no larger file there" in " ".join(failed.stderr.split())
    assert files_in(run / "checkpoints") == before
    assert "Resuming at step 4" in electra(*longer)
    checkpoint = read_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.state.step == 8


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is mapped")
def test_a_corpus_that_is_gone_in_mid_run_is_missed_when_it_is_opened_again(
    electra: Invoke, complaint: Invoke, pretrain_cfg: Path, store_dir: Path, tiny: list[str], tmp_path: Path
) -> None:
    store = shutil.copytree(store_dir, tmp_path / "store")
    (tmp_path / "removing.py").write_text(REMOVE, encoding="utf8")
    logger = f'{{"@loggers": "test.RemovingLogger.v1", "path": "{store}"}}'
    command = ["pretrain", pretrain_cfg, "--output", tmp_path / "run", *tiny, "--paths.train", store]
    electra(*command, "--code", tmp_path / "removing.py", "--training.logger", logger)
    assert not store.exists()
    assert (tmp_path / "run" / "model-last" / "discriminator" / "model.safetensors").is_file()
    assert "holds no finished store" in complaint(*command, "--resume", "--training.max_steps", 8)


def test_sigterm_amid_an_evaluation_ends_the_run_after_it(
    run_command: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, signals = loop.evaluate_dev, iter([signal.SIGTERM])

    def evaluate_and_be_told(task: Any) -> dict[str, float]:
        for number in signals:
            os.kill(os.getpid(), number)
        return evaluate(task)

    monkeypatch.setattr(loop, "evaluate_dev", evaluate_and_be_told)
    result = run_command("pretrain", pretrain_cfg, "--output", tmp_path / "run", *tiny)
    assert result.exit_code == 130
    checkpoint = read_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.state.step == 2
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
