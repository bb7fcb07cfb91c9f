"""What several runs of a ladder share is made once: data, vocabularies, vectors, pretrained weights.

A `Preparation` names what it is made from, and its folder is called by a hash of that, so that other inputs, or other
minutes, make another one. An interrupted one is gone on with; what it took is added up.

NAME-HASH/finished.json    there once it is whole       NAME-HASH/cost.json        processor seconds by phase
NAME-HASH/process.json     who is at work on it         NAME-HASH/STEP.log         what each step has printed
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from measured import end_of, is_ending, run_measured
from wasabi import msg

from spacy_electra.data.atomic import replace_file

FINISHED, COST, PROCESS, LOCK = "finished.json", "cost.json", "process.json", ".lock"
NOTE_SECONDS = 5.0  # of the processor between two notes of what a step has used
WAIT_SECONDS = 1.0  # between two looks at a lock
TEXT, PRETRAINING = "text", "pretraining"  # phases that are counted, apart
UNCOUNTED = ""


@dataclass(frozen=True)
class Step:
    """One program of a preparation."""

    name: str
    phase: str
    arguments: list[str]  # of Python


@dataclass(frozen=True)
class Preparation:
    """Something to be made in a folder of its own."""

    name: str
    made_from: Mapping[str, object]  # digests and settings, all that decides what comes out
    steps: Callable[[Path, "Cache"], list[Step]]  # for the folder, which may hold what was made before an interrupt
    product: str  # what is used of it, below the folder
    needs: tuple["Preparation", ...] = ()

    @property
    def fingerprint(self) -> str:
        record = {"name": self.name, "from": self.made_from, "needs": [one.fingerprint for one in self.needs]}
        return fingerprint_of(record)

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.fingerprint[:12]}"

    def all_needs(self) -> dict[str, "Preparation"]:
        """This one and all that it needs, by folder, each once."""
        found = {self.folder_name: self}
        for need in self.needs:
            found |= need.all_needs()
        return found


def fingerprint_of(record: object) -> str:
    """sha256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode("utf8")).hexdigest()


@dataclass(frozen=True)
class Cache:
    """The folder of all preparations."""

    root: Path

    def folder(self, preparation: Preparation) -> Path:
        return self.root / preparation.folder_name

    def product(self, preparation: Preparation) -> Path:
        """Where it is, or will be."""
        return self.folder(preparation) / preparation.product

    def ready(self, preparation: Preparation) -> Path:
        """Make what is needed where it is not there yet; the product. Raises ValueError for a step that failed."""
        for need in preparation.needs:
            self.ready(need)
        folder = self.folder(preparation)
        with claimed(folder):
            if not (folder / FINISHED).is_file():
                msg.info(f"preparing {folder}")
                for step in preparation.steps(folder, self):
                    self._do(step, folder)
                replace_file(folder / FINISHED, json.dumps(preparation.made_from, indent=2).encode("utf8"))
        return self.product(preparation)

    def is_ready(self, preparation: Preparation) -> bool:
        return (self.folder(preparation) / FINISHED).is_file()

    def seconds(self, preparation: Preparation) -> dict[str, float]:
        """Processor seconds of each phase that this one and its needs took."""
        total = {TEXT: 0.0, PRETRAINING: 0.0}
        for one in preparation.all_needs().values():
            for phase, used in read_cost(self.folder(one)).items():
                total[phase] += used
        return total

    def _do(self, step: Step, folder: Path) -> None:
        before = read_cost(folder)
        noted = 0.0

        def note(used: float) -> None:
            nonlocal noted
            if step.phase and used >= noted + NOTE_SECONDS:
                add_cost(folder, before, step.phase, used)
                noted = used

        ended = run_in(folder, step.arguments, log=f"{step.name}.log", on_look=note)
        if step.phase:
            add_cost(folder, before, step.phase, ended)


def run_in(
    folder: Path, arguments: list[str], *, log: str, on_look: Callable[[float], object] = lambda seconds: None
) -> float:
    """Run Python with arguments for a claimed folder; processor seconds. Raises ValueError with the log's end."""

    def tell(process: psutil.Process) -> None:
        record = {"pid": process.pid, "created": process.create_time()}
        replace_file(folder / PROCESS, json.dumps(record).encode("utf8"))

    path = folder / log
    ended = run_measured([sys.executable, *arguments], path, is_apart=True, on_start=tell, on_look=on_look)
    (folder / PROCESS).unlink(missing_ok=True)
    if ended.status:
        raise ValueError(f"a program has ended with status {ended.status}, its log {path} with\n{end_of(path)}")
    return ended.cpu_seconds


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other ladders from working in a folder, which is made; waits for them, and gives up when all is to end.

    Raises ValueError where a program is at work there whose ladder was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    while True:
        if is_ending():
            raise KeyboardInterrupt
        try:
            lock.acquire(timeout=WAIT_SECONDS)
            break
        except Timeout:
            continue
    try:
        _check_process(folder)
        yield
    finally:
        lock.release()


def _check_process(folder: Path) -> None:
    path = folder / PROCESS
    if not path.is_file():
        return
    record = json.loads(path.read_text(encoding="utf8"))
    try:
        is_alive = psutil.Process(record["pid"]).create_time() == record["created"]
    except psutil.NoSuchProcess:
        is_alive = False
    if is_alive and record["pid"] != os.getpid():
        raise ValueError(
            f"process {record['pid']} is still at work in {folder}, though the ladder that began it is gone: "
            f"wait until it has ended, or end it with `kill {record['pid']}`, and start again."
        )
    path.unlink()


def read_cost(folder: Path) -> dict[str, float]:
    """Processor seconds by phase, as noted so far."""
    path = folder / COST
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def add_cost(folder: Path, before: dict[str, float], phase: str, used: float) -> None:
    """Note what a step has used, beside what was used before it began."""
    record = before | {phase: round(before.get(phase, 0.0) + used, 2)}
    replace_file(folder / COST, json.dumps(record).encode("utf8"))
