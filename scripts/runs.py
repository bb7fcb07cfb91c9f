"""What a set of training runs leaves on disk: a folder for each variant and seed, and a list of them, `runs.json`."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RUNS, COST = "runs.json", "cost.json"


@dataclass(frozen=True, order=True)
class Run:
    """One run of `spacy train`."""

    variant: str
    seed: int
    made_from: str = ""  # sha256 of the command and of the files that it read

    def folder(self, root: Path) -> Path:
        """Where the run is, below the folder of the set."""
        return root / self.variant / f"seed-{self.seed}"


def write_runs(root: Path, runs: Iterable[Run]) -> None:
    """List the runs of a set, in the order given."""
    text = json.dumps([asdict(run) for run in runs], indent=2)
    (root / RUNS).write_text(text + "\n", encoding="utf8")


def read_runs(root: Path) -> list[Run]:
    """The runs of a set. Raises FileNotFoundError where there is no list of them."""
    path = root / RUNS
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder that train_runs.py has written.")
    return [Run(**entry) for entry in json.loads(path.read_text(encoding="utf8"))]


def write_cost(folder: Path, *, cpu_minutes: float) -> None:
    """Note what a run took, in its folder."""
    (folder / COST).write_text(json.dumps({"cpu_minutes": round(cpu_minutes, 2)}) + "\n", encoding="utf8")


def read_cost(folder: Path) -> float:
    """Processor minutes of a run, 0 where they were not noted."""
    path = folder / COST
    return float(json.loads(path.read_text(encoding="utf8"))["cpu_minutes"]) if path.is_file() else 0.0


def read_seeds(text: str) -> list[int]:
    """Numbers separated by commas. Raises ValueError for anything else."""
    seeds = [part.strip() for part in text.split(",")]
    if not all(seed.isdigit() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"expected different whole numbers as seeds, such as 0,1,2, but got {text!r}.")
    return [int(seed) for seed in seeds]
