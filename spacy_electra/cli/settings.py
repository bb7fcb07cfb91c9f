"""A pretraining config, read and checked: takes a file and overrides, gives typed sections and filled-in defaults."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confection import Config, ConfigValidationError
from spacy.util import load_config, registry
from thinc.api import Optimizer

from spacy_electra.model.keys import check_keys
from spacy_electra.model.optimizer import Hyperparameters
from spacy_electra.training.schema import Paths, System, Training, check_sections, read_section

FUNCTION_SECTIONS = {
    ("model",): "architectures",
    ("training", "optimizer"): "optimizers",
    ("training", "logger"): "loggers",
}


@dataclass(frozen=True)
class Settings:
    """A config whose keys and values are valid. Nothing is built yet but optimizer and logger."""

    config: Config  # plain values, with the defaults of the functions it names
    paths: Paths
    system: System
    training: Training

    def with_model(self, **changes: Any) -> "Settings":
        """The same with other values in [model]."""
        config = self.config.copy()
        config["model"].update(changes)
        return replace(self, config=config)


def read_settings(path: Path, overrides: Mapping[str, Any]) -> Settings:
    """Load and check a config.

    Raises FileNotFoundError where there is none, and ValueError that names the first wrong section, key or value.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no config {path}: write one with `python -m spacy electra init-config OUT_DIR`."
        )
    config = load_config(path, overrides=dict(overrides), interpolate=True)
    check_sections(config)
    for place, kind in FUNCTION_SECTIONS.items():
        _fill_in(config, place, kind)
    training = dict(config["training"])
    _check_rate(training["optimizer"])
    for name in ("optimizer", "logger"):
        training[name] = make(training[name], f"training.{name}")
    _check_optimizer(training["optimizer"])
    return Settings(
        config=config,
        paths=read_section(Paths, config["paths"]),
        system=read_section(System, config["system"]),
        training=read_section(Training, training),
    )


def make(section: dict[str, Any], place: str) -> Any:
    """What the registered function in a section makes. Raises ValueError that names the first value of a wrong type.

    place: the section's name, e.g. "training.optimizer".
    """
    try:
        return registry.resolve({place: section})[place]
    except ConfigValidationError as error:
        first = error.errors[0]
        key, problem = ".".join(str(part) for part in first["loc"]), str(first["msg"]).removeprefix("at root: ")
        raise ValueError(f"{key}: {problem}") from None


def _fill_in(config: Config, place: tuple[str, ...], kind: str) -> None:
    """Hold the section at `place` against the signature of the function it names, and add its defaults."""
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
