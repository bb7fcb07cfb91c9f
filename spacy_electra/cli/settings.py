"""Read and check a pretraining config: takes a file and overrides, returns typed sections with defaults filled in."""

import configparser
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confection import Config, ConfigValidationError
from spacy.util import load_config, registry
from thinc.api import Optimizer

from spacy_electra.cli.configs import TEMPLATES
from spacy_electra.cli.errors import check_name
from spacy_electra.cli.renamed import rename_keys, rename_overrides, warn_of_old_names
from spacy_electra.model.keys import check_keys, refuse_alike
from spacy_electra.model.optim.adamw import Hyperparameters
from spacy_electra.model.pretrainer import ELECTRA, HalfShapes, check_model
from spacy_electra.training.metrics import SCORES
from spacy_electra.training.schema import (
    CORPORA,
    OPTIONAL,
    Corpus,
    Paths,
    System,
    Teacher,
    Training,
    check_sections,
    read_section,
)

FUNCTION_SECTIONS = {
    ("model",): "architectures",
    ("training", "optimizer"): "optimizers",
    ("training", "logger"): "loggers",
}
ADDED_LATER = (("training", "max_unknown"),)


@dataclass(frozen=True)
class PretrainingConfig:
    """A config with valid keys and values. Only optimizer and logger are built yet."""

    config: Config  # plain values, with the defaults of the functions it names
    paths: Paths
    system: System
    training: Training
    teacher: Teacher | None = None
    corpora: dict[str, Corpus] = field(default_factory=dict)  # mixed into paths.train, by name in alphabetical order

    def with_model(self, **changes: Any) -> "PretrainingConfig":
        """A copy with other values in [model]."""
        config = self.config.copy()
        config["model"].update(changes)
        return replace(self, config=config)


def read_pretraining_config(path: Path, overrides: Mapping[str, Any]) -> PretrainingConfig:
    """Load and check a config.

    Raises FileNotFoundError if there is none, and ValueError that names the first wrong section, key or value.
    """
    overrides, old_names = rename_overrides(overrides)
    config, more = _load(path, overrides)
    warn_of_old_names([*more, *old_names])
    _add_later_keys(config)
    check_sections(config)
    for place, kind in FUNCTION_SECTIONS.items():
        _fill_in(config, place, kind)
    training = dict(config["training"])
    _check_rate(training["optimizer"])
    for name in ("optimizer", "logger"):
        training[name] = make(training[name], f"training.{name}")
    _check_optimizer(training["optimizer"])
    settings = PretrainingConfig(
        config=config,
        paths=read_section(Paths, config["paths"]),
        system=read_section(System, config["system"]),
        training=read_section(Training, training),
        teacher=_read_teacher(config),
        corpora=_read_corpora(config),
    )
    for name in settings.training.score_weights:
        if name not in SCORES:
            refuse_alike(name, SCORES, where="[training.score_weights]")
    return settings


def _read_teacher(config: Config) -> Teacher | None:
    """The section [teacher], with its defaults filled in; None if the config has none."""
    if "teacher" not in config:
        return None
    teacher = read_section(Teacher, config["teacher"])
    config["teacher"] = teacher.model_dump()
    return teacher


def _read_corpora(config: Config) -> dict[str, Corpus]:
    """The sections in [corpora]; sorted, so that rows do not depend on the order of a file."""
    sections = config.get(CORPORA, {})
    return {name: read_section(Corpus, sections[name], name=f"{CORPORA}.{name}") for name in sorted(sections)}


def _add_later_keys(config: Config) -> None:
    """Add newer keys with their packaged values to a config of an older version."""
    packaged = load_config(TEMPLATES / "pretrain.cfg", interpolate=False)
    for section, key in ADDED_LATER:
        if isinstance(config.get(section), dict):
            config[section].setdefault(key, packaged[section][key])


def _load(path: Path, overrides: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """The config with its variables filled in, and the older names of keys in it.

    Raises FileNotFoundError or ValueError that names the file.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, expected a config such as {path / 'pretrain.cfg'}.")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no config {path}: write one with `python -m spacy electra init-config OUT_DIR`."
        )
    with _readable(path):
        plain = load_config(path, interpolate=False)
    if "nlp" in plain:
        raise ValueError(
            f"{path} describes a pipeline ([nlp]), expected a pretraining config: train it with "
            f"`python -m spacy train {path}`, or write one for pretraining with `python -m spacy electra init-config`."
        )
    old_names = rename_keys(plain)
    _check_overrides(plain, overrides)
    _check_paths(plain, overrides, text=path.read_text(encoding="utf8"))
    with _readable(path):
        config = Config(section_order=plain.section_order)
        text = plain.to_str(interpolate=False)
        return config.from_str(text, overrides=dict(overrides), interpolate=True), old_names


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise ValueError that names the file if it is not a config: bad syntax, duplicate key, unknown variable."""
    try:
        yield
    except (configparser.Error, ValueError) as error:  # a ConfigValidationError among them
        why = getattr(error, "desc", None) or error
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else why
        raise ValueError(f"{path} is no config: {' '.join(str(why).split())}") from error


def _check_overrides(plain: Config, overrides: Mapping[str, Any]) -> None:
    """Refuse unknown sections, and numbers without a value, which spaCy's parser takes for true."""
    for name, value in overrides.items():
        first, *rest = name.split(".")
        if first in OPTIONAL and first not in plain:
            raise ValueError(f"--{name}: the config has no section [{first}]. Write it there first, with its name.")
        check_name(first, list(plain), what="section")
        found: Any = plain[first]
        for part in rest:
            found = found.get(part) if isinstance(found, Mapping) else None
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if is_number and isinstance(value, bool):
            raise ValueError(f"--{name} needs a number, such as --{name} {found}, but got {str(value).lower()}.")


def _check_paths(plain: Config, overrides: Mapping[str, Any], *, text: str) -> None:
    """Refuse a name in [paths] that is close to a known one and that no variable in the config's `text` uses."""
    ours = list(Paths.model_fields)
    given = [*plain.get("paths", {}), *(name.removeprefix("paths.") for name in overrides if name.startswith("paths."))]
    for name in given:
        if name not in ours and f"${{paths.{name}}}" not in text:
            refuse_alike(name, ours, where="[paths]")


def make(section: dict[str, Any], place: str) -> Any:
    """Call the registered function of a section. Raises ValueError that names the first value of a wrong type.

    place: the section's name, e.g. "training.optimizer".
    """
    with _told_by_key():
        return registry.resolve({place: section})[place]


def check_types(section: dict[str, Any], place: str) -> None:
    """Raise the ValueErrors of `make` without calling anything."""
    with _told_by_key():
        registry.fill({place: section})


def shapes_in(section: dict[str, Any], *, vocab_size: int) -> HalfShapes | None:
    """The bodies that a section [model] describes, without building them; None for an architecture of others.

    Raises the ValueErrors of `check_model` and `make`.
    """
    check_types(section, "model")
    if section["@architectures"] != ELECTRA:
        return None
    known = inspect.signature(check_model).parameters
    return check_model(**{key: value for key, value in section.items() if key in known}, vocab_size=vocab_size)


@contextmanager
def _told_by_key() -> Iterator[None]:
    try:
        yield
    except ConfigValidationError as error:
        first = error.errors[0]
        key, problem = ".".join(str(part) for part in first["loc"]), str(first["msg"]).removeprefix("at root: ")
        problem = re.sub(r"is not <class '(\w+)'>", r"is not a value of type \1", problem)
        problem = re.sub(r"is not typing\.Literal\[(.*)\]", r"is none of \1", problem)
        raise ValueError(f"{key}: {problem}") from None


def _fill_in(config: Config, place: tuple[str, ...], kind: str) -> None:
    """Check the section at `place` against the signature of the function it names, and add its defaults."""
    name = ".".join(place)
    section: Any = config
    for part in place:
        section = section[part]
    if not isinstance(section, dict) or f"@{kind}" not in section:
        raise ValueError(f"[{name}] must name a registered function: add a line @{kind} = ... to it.")
    parameters = inspect.signature(registry.get(kind, section[f"@{kind}"])).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    required = [key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    given = [key for key in section if not key.startswith("@")]
    check_keys(given, valid=list(parameters), required=required, where=f"[{name}]")
    for key, parameter in parameters.items():
        if key not in section and key not in required:
            section[key] = parameter.default


def _check_rate(section: Mapping[str, Any]) -> None:
    if not isinstance(section["learn_rate"], int | float):
        raise ValueError(
            f"training.optimizer.learn_rate must be a number, the peak, but got {section['learn_rate']!r}: "
            f"the schedule is the paper's and follows the budget (training.warmup, training.max_steps, ...)."
        )


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"training.optimizer must make a thinc optimizer, but makes a {type(optimizer).__name__}.")
    Hyperparameters.of(optimizer)
