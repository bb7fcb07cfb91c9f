"""`pretrain` as torchrun starts it: one run, one voice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

RANK = """
import os, pathlib, sys
from spacy_electra.cli import app
try:
    app()
finally:
    (pathlib.Path(__file__).parent / os.environ["RANK"]).write_text(str(sys.exc_info()[1].code))
"""
SIGNALLING = """
import os, signal
from spacy.util import registry

@registry.loggers("test.SignallingLogger.v1")
def make():
    return lambda nlp, stdout, stderr: (lambda info: os.kill(os.getpid(), signal.SIGTERM), lambda: None)
"""

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def launch(pretrain_cfg: Path, tiny: list[str]) -> Launch:
    """Start `pretrain` in two processes, with further arguments."""

    def start(
        *arguments: str | Path, program: Sequence[str | Path] = ("-m", "spacy", "electra")
    ) -> "subprocess.CompletedProcess[str]":
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*torchrun, *program, "pretrain", pretrain_cfg, *tiny, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)

    return start


def test_two_processes_make_one_run_and_speak_with_one_voice(launch: Launch, tmp_path: Path) -> None:
    done = launch("--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 steps in") == 1
    assert done.stdout.count("LOSS GENER") == 1
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf8").splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    assert (tmp_path / "run" / "latest").read_text("utf8") == "step-00000004\n"
    assert (tmp_path / "run" / "model-last" / "discriminator" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu-id", "0"], "--gpu-id 0 names one GPU, but torchrun started several processes"),
        (["--training.batch_rows", "1"], "training.batch_rows is 1, too few for 2 processes"),
    ],
)
def test_a_mistake_is_told_once(launch: Launch, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = launch("--output", tmp_path / "run", *arguments)
    assert done.returncode != 0
    assert " ".join(done.stderr.split()).count(message) == 1
    assert "Traceback (most recent call last)" not in done.stderr.split(message)[0]
    assert not (tmp_path / "run").exists()


def test_a_signal_to_one_process_ends_all_as_interrupted(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK, encoding="utf8")
    (tmp_path / "code.py").write_text(SIGNALLING, encoding="utf8")
    logger = ["--code", tmp_path / "code.py", "--training.logger", '{"@loggers": "test.SignallingLogger.v1"}']
    done = launch("--output", tmp_path / "run", *logger, program=[tmp_path / "rank.py"])
    assert "Interrupted after" in done.stdout
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["130", "130"]
    assert (tmp_path / "run" / "latest").is_file()
