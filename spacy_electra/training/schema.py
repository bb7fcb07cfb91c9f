"""The types of a pretraining config's plain sections, and our own check of its keys.

`registry.resolve` drops a misspelt key in a plain section without a word, so every key is held against the schema
here, and the nearest valid one is named.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class Paths(Section):
    """Where things are. Further names may be added for `${paths.…}`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    train: str
    dev: str | None
    tokenizer: str
    init: str | None


class System(Section):
    gpu_allocator: str | None
    gpu_memory_fraction: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)


class Training(Section):
    max_steps: int = Field(ge=0)  # optimizer steps; 0 for no such budget, as for the next two
    max_epochs: float = Field(ge=0)
    max_minutes: float = Field(ge=0)
    batch_rows: int = Field(ge=1)  # rows of an optimizer step
    micro_batch: int = Field(ge=0)  # rows of one forward pass; 0 for all rows of the step at once
    mask_rate: float = Field(gt=0, lt=1)
    keep_rate: float = Field(ge=0, lt=1)
    discriminator_weight: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)  # share of the budget
    eval_frequency: int = Field(ge=1)  # steps
    dev_rows: int = Field(ge=1)  # most rows an evaluation reads
    checkpoint_minutes: float = Field(gt=0)
    keep_checkpoints: int = Field(ge=1)
    score_weights: dict[str, float]
    optimizer: Any
    logger: Any

    @model_validator(mode="after")
    def _check_budget(self) -> "Training":
        if not (self.max_steps or self.max_epochs or self.max_minutes):
            raise ValueError(
                "no budget: max_steps, max_epochs and max_minutes are all 0, so the run would never end. "
                "Set one, e.g. --training.max_minutes 10"
            )
        return self


SECTIONS: dict[str, type[Section]] = {"paths": Paths, "system": System, "training": Training}


def check_keys(config: Mapping[str, Any]) -> None:
    """Hold the top level and the plain sections of a config against the schema.

    Raises ValueError for the first key that is unknown or missing, with the nearest valid name.
    """
    _check_names(config.keys(), [*SECTIONS, "model"], optional=(), where="the config", what="section")
    for name, section in SECTIONS.items():
        loose = section.model_config.get("extra") == "allow"
        given = [key for key in config[name] if key in section.model_fields] if loose else list(config[name])
        _check_names(given, list(section.model_fields), optional=(), where=f"[{name}]", what="key")


def _check_names(given: Iterable[str], known: list[str], *, optional: Iterable[str], where: str, what: str) -> None:
    given = list(given)
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(
                f"{where} has an unknown {what} {name!r}: did you mean {nearest[0]!r}? "
                f"Valid are {', '.join(sorted(known))}."
            )
    for name in known:
        if name not in given and name not in optional:
            raise ValueError(
                f"{where} lacks the {what} {name!r}: take it from what `spacy electra init-config` writes."
            )


def check_arguments(section: str, given: Iterable[str], known: Iterable[str], required: Iterable[str]) -> None:
    """The same for a section that a registered function resolves, e.g. [model]."""
    known, required = list(known), set(required)
    _check_names(given, known, optional=set(known) - required, where=f"[{section}]", what="key")


def read_section(name: str, values: Mapping[str, Any]) -> Any:
    """Check the values of a plain section. Raises ValueError that names key, value and expectation."""
    try:
        return SECTIONS[name].model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *(str(part) for part in first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        got = "" if not first["loc"] else f", but got {first['input']!r}"
        raise ValueError(f"{place}: {message[0].lower()}{message[1:]}{got}") from None
