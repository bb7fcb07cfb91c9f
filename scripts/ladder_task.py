"""What a ladder climbs: a task's data, components and budgets, from a file in configs/ladder/.

Names of files may begin with {data}, the folder that is given to the ladder, {assets}, that of the project, or {made},
where the commands of [make] leave what they write.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare import SCORES
from confection import Config, ConfigValidationError
from pydantic import Field, field_validator
from spacy.util import load_config

from spacy_electra.cli.configs import SIZES
from spacy_electra.cli.errors import check_name
from spacy_electra.model.keys import check_keys
from spacy_electra.training.schema import Section, read_section

ROOT = Path(__file__).resolve().parents[1]
SPACY_S_OWN = ("cnn", "cnn-ensemble", "cnn-floret", "cnn-pretrain")
RUNGS = (*SPACY_S_OWN, "random", "mlm", "electra", "start", "start-electra")
PLACES = ("data", "assets", "made")


class About(Section):
    """[task]"""

    title: str = Field(min_length=1)
    about: str  # what is learned from, stopped by and scored on, in a sentence or two
    lang: str
    components: list[str] = Field(min_length=1)
    scores: list[str] = Field(min_length=1)  # keys of `compare.SCORES`; plots show their mean
    seeds: list[int] = Field(min_length=1)
    start: str  # folder of an encoder that is ready

    @field_validator("scores")
    @classmethod
    def _check_scores(cls, names: list[str]) -> list[str]:
        for name in names:
            check_name(name, SCORES, what="score")
        return names


class Paths(Section):
    """[paths]"""

    text: str  # raw text, as `spacy electra tokenize` reads it
    train: str
    dev: str  # decides when training stops and which weights are kept
    test: str


class Floret(Section):
    """[pretraining.floret]"""

    dim: int = Field(ge=1)
    bucket: int = Field(ge=1)
    most_epochs: int = Field(ge=1)


class Pretraining(Section):
    """[pretraining]"""

    minutes: float = Field(gt=0, allow_inf_nan=False)  # of the processor, for each kind
    size: str  # of what begins with nothing
    vocabulary: str  # options of `train-tokenizer` for it
    floret: Floret

    @field_validator("size")
    @classmethod
    def _check_size(cls, name: str) -> str:
        check_name(name, SIZES, what="size")
        return name


class FineTuning(Section):
    """[fine_tuning]"""

    eval_frequency: int = Field(ge=1)
    cnn_options: str  # of `spacy train`, for rungs of spaCy's own
    options: str  # for the others
    steps: dict[str, int]  # of each rung

    @field_validator("steps", mode="before")
    @classmethod
    def _check_steps(cls, steps: Mapping[str, Any]) -> dict[str, Any]:
        named = {name.replace("_", "-"): count for name, count in steps.items()}
        check_keys(list(named), valid=RUNGS, required=(), where="[fine_tuning.steps]", what="rung")
        if missing := [name for name in RUNGS if name not in named]:
            raise ValueError(f"[fine_tuning.steps] lacks the rung {missing[0]!r}: add a line {missing[0]} = 1000")
        return named


SECTIONS: dict[str, type[Section]] = {
    "task": About,
    "paths": Paths,
    "pretraining": Pretraining,
    "fine_tuning": FineTuning,
}
MAKE = "make"  # the section of commands, each an argument list of Python that begins with -m or the name of a script


@dataclass(frozen=True)
class Task:
    """A description, read and checked. Names of files are as written; `filled` puts the places in."""

    name: str
    about: About
    make: dict[str, str]
    paths: Paths
    pretraining: Pretraining
    fine_tuning: FineTuning


def read_task(path: Path, overrides: Mapping[str, Any]) -> Task:
    """Read a task's description. Raises FileNotFoundError or ValueError that says what is wrong with it."""
    if not path.is_file():
        known = ", ".join(sorted(file.as_posix() for file in Path("configs/ladder").glob("*.cfg")))
        raise FileNotFoundError(f"there is no task {path}: give the file of one, such as {known or 'software.cfg'}.")
    try:
        config = load_config(path, overrides=dict(overrides), interpolate=True)
    except (ConfigValidationError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a config: {error}") from error
    check_keys(list(config), valid=[*SECTIONS, MAKE], required=(), where=str(path), what="section")
    if missing := [name for name in (*SECTIONS, MAKE) if name not in config]:
        raise ValueError(f"{path} lacks the section [{missing[0]}]: take it from another task in configs/ladder/.")
    values = {name: read_section(kind, _keys(kind, config, name), name=name) for name, kind in SECTIONS.items()}
    sections: dict[str, Any] = {_field(name): value for name, value in values.items()}
    task = Task(path.stem, make=dict(config[MAKE]), **sections)
    _check_steps(task)
    return task


def _keys(kind: type[Section], config: Config, name: str) -> dict[str, Any]:
    """The values of a section whose keys are those of its kind."""
    fields = list(kind.model_fields)
    check_keys(list(config[name]), valid=fields, required=(), where=f"[{name}]")
    if missing := [key for key in fields if key not in config[name]]:
        raise ValueError(f"[{name}] lacks the key {missing[0]!r}: take it from another task in configs/ladder/.")
    return dict(config[name])


def _field(section: str) -> str:
    return "about" if section == "task" else section


def _check_steps(task: Task) -> None:
    """Raise ValueError where the last step of a run would not be looked at."""
    every = task.fine_tuning.eval_frequency
    for rung, steps in task.fine_tuning.steps.items():
        if steps < every or steps % every:
            raise ValueError(
                f"[fine_tuning.steps] {rung} is {steps}, expected a multiple of eval_frequency, {every}: "
                f"weights are looked at and kept every {every} steps, so the last ones would be lost."
            )


def filled(text: str, places: Mapping[str, Path]) -> str:
    """The text with each {place}. Raises ValueError for an unknown one."""

    def put(match: re.Match[str]) -> str:
        check_name(match[1], PLACES, what="place")
        return places[match[1]].as_posix()

    return re.sub(r"\{(\w+)\}", put, text)


def arguments(command: str, places: Mapping[str, Path]) -> list[str]:
    """What Python is called with, for a command of [make]; a script is one of scripts/."""
    words = [filled(word, places) for word in shlex.split(command)]
    if not words:
        raise ValueError(f"[{MAKE}] has an empty command: give the name of a script and its arguments.")
    return words if words[0] == "-m" else [str(ROOT / "scripts" / words[0]), *words[1:]]
