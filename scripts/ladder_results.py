"""What a ladder leaves behind: one small JSON for each task, rung and seed, RESULTS/TASK/RUNG-SEED.json.

RESULTS/TASK/task.json says what the task is and which of its scores are shown.
"""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compare import SCORES
from ladder_task import RUNGS

from spacy_electra.data.atomic import replace_file

TASK = "task.json"
PACKAGES = ("spacy", "torch", "spacy-electra", "floret")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Description:
    """A task, as the page names it."""

    title: str
    about: str
    scores: tuple[str, ...]  # keys of `compare.SCORES`


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run. Scores are shares of 1; times are those of one thread."""

    rung: str
    seed: int
    scores: dict[str, float]
    steps: int  # of fine-tuning that were taken
    best_step: int  # whose weights were kept
    cpu_minutes_text: float  # cutting the text into what pretraining reads; shared by the seeds, as the next
    cpu_minutes_pretraining: float
    cpu_minutes_fine_tuning: float
    words_per_cpu_second: float
    docs: int  # that were scored
    words: int
    processor: str
    versions: dict[str, str]
    documents: str  # sha256 of train, dev and test: only results with the same may be compared
    fingerprint: str  # sha256 of config, documents and weights: a run with the same is not done again

    @property
    def cpu_minutes(self) -> float:
        """All of the training."""
        return self.cpu_minutes_text + self.cpu_minutes_pretraining + self.cpu_minutes_fine_tuning


def result_path(results: Path, task: str, rung: str, seed: int) -> Path:
    return results / task / f"{rung}-{seed}.json"


def write_result(path: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    _write(path, asdict(result))


def write_description(results: Path, task: str, description: Description) -> None:
    """Say what a task is."""
    _write(results / task / TASK, asdict(description))


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(record, indent=2) + "\n").encode("utf8"))


def read_description(path: Path) -> Description:
    """A task's task.json. Raises ValueError that names the file where it is none."""
    record = _read(path, set(Description.__dataclass_fields__))
    unknown = [name for name in record["scores"] if name not in SCORES]
    if unknown or not record["scores"]:
        raise ValueError(f"{path}: expected scores among {', '.join(SCORES)}, but got {record['scores']}.")
    return Description(record["title"], record["about"], tuple(record["scores"]))


def read_result(path: Path) -> Result:
    """A result. Raises ValueError that names the file where it is none, or is called otherwise than it says."""
    record = _read(path, set(Result.__dataclass_fields__))
    if record["rung"] not in RUNGS or path.name != f"{record['rung']}-{record['seed']}.json":
        raise ValueError(f"{path} says that it is {record['rung']} with seed {record['seed']}: give it back its name.")
    return Result(**record)


def _read(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): remove it and run the ladder again.") from error
    if not isinstance(record, dict) or set(record) != keys:
        got = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(
            f"{path}: expected an object with {', '.join(sorted(keys))}, but got {got}: "
            f"remove it and run the ladder again."
        )
    return record


def read_results(folder: Path) -> Iterator[Result]:
    """The results of a task, in the order of rungs and seeds."""
    found = [read_result(path) for path in folder.glob("*.json") if path.name != TASK]
    yield from sorted(found, key=lambda one: (RUNGS.index(one.rung), one.seed))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what comes out, those that are installed."""
    installed = {name: version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))}
    return {"python": platform.python_version(), **installed}


def processor() -> str:
    """The name of the processor, as the system tells it."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or f"{platform.machine()} ({sys.platform})"
