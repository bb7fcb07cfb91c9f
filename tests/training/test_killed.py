"""A run that is killed at any moment, any number of times, ends with the same bits as one that is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spacy_electra.data.store.reader import Store

WORKER = Path(__file__).with_name("killed_worker.py")
WITH_CLOCKS = {"timings.jsonl", "README.md", "state.json"}  # hold seconds

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of a process that has all imports")


def run(store: Store, folder: Path, *, precision: str, steps: int, ranks: int, kills: int) -> int:
    """How many of the kills met a run that was not finished."""
    numbers = [str(number) for number in (steps, ranks, kills)]
    command = [sys.executable, str(WORKER), str(store.directory), str(folder), precision, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def bytes_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in WITH_CLOCKS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("precision", "steps", "ranks", "kills"),
    [
        ("fp32", 120, 1, 5),
        ("fp32", 60, 2, 3),
        pytest.param("fp32", 1200, 1, 50, marks=pytest.mark.slow),
        pytest.param("bf16", 1200, 1, 50, marks=pytest.mark.slow),
        pytest.param("fp32", 600, 2, 50, marks=pytest.mark.slow),
        pytest.param("bf16", 600, 2, 50, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    store: Store, tmp_path: Path, precision: str, steps: int, ranks: int, kills: int
) -> None:
    assert run(store, tmp_path / "undisturbed", precision=precision, steps=steps, ranks=ranks, kills=0) == 0
    met = run(store, tmp_path / "killed", precision=precision, steps=steps, ranks=ranks, kills=kills)
    assert met >= kills // 2, f"only {met} of {kills} kills met a run that was not finished"
    expected, found = bytes_in(tmp_path / "undisturbed"), bytes_in(tmp_path / "killed")
    assert f"checkpoints/step-{steps:08d}/optimizer.safetensors" in expected
    assert "model-last/discriminator/model.safetensors" in expected
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
