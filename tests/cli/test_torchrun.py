"""`pretrain` as torchrun starts it: one run, one voice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def launch(pretrain_cfg: Path, tiny: list[str]) -> Launch:
    """Start `pretrain` in two processes, with further arguments."""

    def start(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*torchrun, "-m", "spacy", "electra", "pretrain", pretrain_cfg, *tiny, *arguments]
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
