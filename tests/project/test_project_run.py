"""The workflow `all` in small, as a user runs it: a checked package, skipped when run again, resumed after Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREE = ("assets", "configs", "scripts", "spacy_electra", "project.yml")
SMALL = {
    "components": "parser",
    "cnn_steps": 20,
    "textcat_options": "",
    "train_steps": 20,
    "eval_frequency": 10,
    "seeds": "0,1",
}
LIMIT = 600  # seconds
POLL = 0.2  # seconds between looks at a file
pytestmark = pytest.mark.slow


def start(folder: Path, **settings: object) -> subprocess.Popen[str]:
    """`spacy project run all` in a session of its own, whose processes a signal reaches as Ctrl-C does."""
    overrides = [part for name, value in (SMALL | settings).items() for part in (f"--vars.{name}", str(value))]
    command = [sys.executable, "-m", "spacy", "project", "run", "all", ".", *overrides]
    environment = os.environ | {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, **settings: object) -> str:
    """What the workflow printed when it had ended well."""
    process = start(folder, **settings)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said[-4000:]
    return said


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until pretraining has saved its first checkpoint, a minute after its first step, however slow they are."""
    path, end = folder / "training" / "software" / "pretrain" / "latest", time.monotonic() + LIMIT
    while time.monotonic() < end:
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[0][-4000:]
        time.sleep(POLL)
    raise AssertionError(f"no checkpoint within {LIMIT} seconds")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What a clone has of the project."""
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_workflow_ends_with_a_checked_package_and_is_skipped_when_run_again(project: Path) -> None:
    run(project, minutes=0.1)
    scores = json.loads((project / "metrics" / "software" / "comparison.json").read_text())
    assert scores
    assert (project / "metrics" / "software" / "check.txt").read_text()
    assert list((project / "packages").glob("*/dist/*.tar.gz"))
    began = time.monotonic()
    again = run(project, minutes=0.1)
    assert time.monotonic() - began < 20
    assert again.count("Skipping") == 12


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C to a group of processes")
def test_ctrl_c_in_the_middle_of_pretraining_loses_nothing(project: Path) -> None:
    process = start(project, minutes=1.5)
    wait_for_checkpoint(project, process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert "which are saved" in said
    assert "Resuming at step" in run(project, minutes=1.5)
