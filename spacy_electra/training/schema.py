"""The schema of the plain sections of a pretraining config, and a check of their keys.

`registry.resolve` silently drops a misspelt key in a plain section, so every key is checked against the schema here,
and the error suggests the nearest valid one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from spacy_electra.model.keys import check_keys, nearest


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class Paths(Section):
    """Paths of the run. Further names may be added for `${paths.…}`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    train: str
    dev: str | None
    tokenizer: str
    init: str | None


class Corpus(Section):
    """A further store to train on, in a section [corpora.NAME]."""

    path: str
    weight: float = Field(gt=0, le=100, allow_inf_nan=False)  # rows beside each row of paths.train


class System(Section):
    gpu_allocator: str | None
    gpu_memory_fraction: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)
    compile: StrictBool | Literal["auto"]  # the passes of training; auto: on NVIDIA cards that Triton serves

    @field_validator("gpu_allocator")
    @classmethod
    def _check_allocator(cls, name: str | None) -> str | None:
        if name not in ("pytorch", None):
            raise ValueError('must be "pytorch" or null, as pretraining runs on torch alone')
        return name


class Training(Section):
    max_steps: int = Field(ge=0)  # optimizer steps; 0 for no such budget, as for the next two
    max_epochs: float = Field(ge=0, allow_inf_nan=False)
    max_minutes: float = Field(ge=0, allow_inf_nan=False)
    batch_rows: int = Field(ge=1)  # rows of an optimizer step
    micro_batch_size: Annotated[int, Field(ge=0)] | Literal["auto"]  # rows of a forward pass; 0: all, auto: what fits
    mask_rate: float = Field(gt=0, lt=1)
    unmasked_fraction: float = Field(ge=0, lt=1)  # of the chosen pieces, those that are not hidden
    max_unknown: float = Field(ge=0, le=1)  # share of a store's pieces that may be [UNK]
    discriminator_weight: float = Field(gt=0, allow_inf_nan=False)
    warmup: float = Field(ge=0, lt=1)  # share of the budget
    eval_frequency: int = Field(ge=1)  # steps
    dev_rows: int = Field(ge=1)  # most rows an evaluation reads
    checkpoint_minutes: float = Field(gt=0)
    keep_checkpoints: int = Field(ge=1)
    max_skipped_steps: int = Field(ge=0)  # in a row, of steps without finite gradients, which are not taken
    on_divergence: Literal["rollback", "stop"]  # to the last checkpoint, with half the rate, a few times at most
    score_weights: dict[str, float | None]
    optimizer: Any  # a thinc optimizer
    logger: Any  # what a function of the registry `loggers` gives

    @model_validator(mode="after")
    def _check_budget(self) -> "Training":
        if not (self.max_steps or self.max_epochs or self.max_minutes):
            raise ValueError(
                "no budget: max_steps, max_epochs and max_minutes are all 0, so the run would never end. "
                "Set one, e.g. --training.max_minutes 10"
            )
        return self


class Teacher(Section):
    """An encoder whose relations between pieces the discriminator learns. The section is optional."""

    name: str = Field(min_length=1)  # directory or hub name, of the same vocabulary as paths.tokenizer
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # of its loss, at the beginning
    until: float = Field(default=1.0, gt=0, le=1)  # share of the budget over which the weight falls to 0
    layer: StrictInt | None = Field(default=None, ge=0)  # counted from 0; None: the last
    student_layer: StrictInt | None = Field(default=None, ge=0)
    relation_heads: StrictInt = Field(default=16, ge=1)  # into which the widths of both are cut


SECTIONS: dict[str, type[Section]] = {"paths": Paths, "system": System, "training": Training}
OPTIONAL: dict[str, type[Section]] = {"teacher": Teacher}
CORPORA = "corpora"  # stores that are mixed in, a section each; may be left out as well
Values = TypeVar("Values", bound=Section)


def check_sections(config: Mapping[str, Any]) -> None:
    """Check the top level and the plain sections of a config against the schema.

    Raises ValueError for the first key that is unknown or missing, with the nearest valid name.
    """
    sections = [*SECTIONS, "model"]
    optional = [*OPTIONAL, CORPORA]
    check_keys(list(config), valid=[*sections, *optional], required=sections, where="the config", what="section")
    for name, section in SECTIONS.items():
        given, where = list(config[name]), f"[{name}]"
        fields = list(section.model_fields)
        if section.model_config.get("extra") == "allow":
            _check_loose(given, fields, where)
        else:
            check_keys(given, valid=fields, required=fields, where=where)
    for name, section in OPTIONAL.items():
        if name in config:
            required = [key for key, field in section.model_fields.items() if field.is_required()]
            check_keys(list(config[name]), valid=list(section.model_fields), required=required, where=f"[{name}]")
    _check_corpora(config.get(CORPORA, {}))


def _check_corpora(corpora: Mapping[str, Any]) -> None:
    """Hold each section [corpora.NAME] against the schema."""
    for name, section in corpora.items():
        where = f"[{CORPORA}.{name}]"
        if name in ("train", "dev"):
            raise ValueError(
                f"{where} cannot be: the store of that name is paths.{name}. [{CORPORA}] names stores that are mixed "
                f"into paths.train, whose weight is 1.0; give this one another name, such as [{CORPORA}.general]."
            )
        if not isinstance(section, Mapping):
            raise ValueError(
                f"{CORPORA}.{name} must be a section {where} with path and weight, but got {section!r}: it names one "
                "store that is mixed into paths.train."
            )
        check_keys(list(section), valid=list(Corpus.model_fields), required=(), where=where)
        for key, what in (("path", "the folder of a store that `tokenize` made"), ("weight", "a number, such as 0.5")):
            if key not in section:
                raise ValueError(f"{where} lacks the key {key!r}: add a line {key} = ... to it, {what}.")


def _check_loose(given: list[str], required: list[str], where: str) -> None:
    """Where further keys are welcome, one that is not known is a mistake only if another is missing."""
    further = [name for name in given if name not in required]
    for name in required:
        if name not in given and further:
            raise ValueError(f"{where} lacks the key {name!r}: is it what {nearest(name, further)!r} was meant to be?")
    check_keys(given, valid=given, required=required, where=where)


def read_section(section: type[Values], values: Mapping[str, Any], *, name: str | None = None) -> Values:
    """Validate the values of a plain section.

    name: as the config writes it, if it is not the schema's own.
    Raises ValueError that names key, value and expectation.
    """
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        first, *others = error.errors()
        others = [other for other in others if first["loc"] and other["loc"][:1] == first["loc"][:1]]
        # pydantic names the members of a union in the place, one error each
        loc = first["loc"][:1] if others else first["loc"]
        place = ".".join([name or section.__name__.lower(), *map(str, loc)])
        messages = [each["msg"].removeprefix("Value error, ") for each in (first, *others)]
        message = ", or ".join([messages[0], *(each.removeprefix("Input should be ") for each in messages[1:])])
        got = f", but got {first['input']!r}" if first["loc"] else ""
        raise ValueError(f"{place}: {message[0].lower()}{message[1:]}{got}") from None
