"""Take the training machine's paths out of a pipeline's config, before it is saved. What else is read there stays."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spacy.language import Language

OURS = "spacy-electra."
LOADED = ("nlp", "system", "components")
TRAINING_SECTIONS = ("corpora", "training", "pretraining", "initialize")  # sections that spacy.load does not resolve
USUAL = [f"paths.{key}" for key in ("train", "dev", "vectors", "init_tok2vec", "discriminator", "encoder")]
VARIABLE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Setting:
    """A value in a config."""

    place: str  # as "paths.train"
    section: dict[str, Any]
    value: Any

    @property
    def key(self) -> str:
        return self.place.rpartition(".")[2]

    @property
    def top(self) -> str:
        return self.place.partition(".")[0]

    @property
    def is_name(self) -> bool:
        """True for where one of our architectures reads its weights from."""
        is_ours = str(self.section.get("@architectures", "")).startswith(OURS)
        return is_ours and self.key == "name" and self.value is not None

    @property
    def variables(self) -> list[str]:
        """What it refers to, as "paths.train"."""
        return [name.replace(":", ".") for name in VARIABLE.findall(str(self.value))]

    def reads(self, place: str) -> bool:
        """True where it refers to this setting, or to a section that holds it."""
        return any(place == name or place.startswith(f"{name}.") for name in self.variables)


def forget_paths(nlp: Language) -> Language:
    """Set paths to null that only we and spaCy's training read; names on the hub stay, and so does what others read.

    As `[training] before_to_disk`, for the weights of the transformer are saved with the pipeline. Returns `nlp`.
    """
    settings = list(_settings(nlp.config))
    readers = _readers_of_what_is_ours(settings)
    forgotten = {s.place for s in settings if s.place in readers and _is_path(s, is_read=bool(readers[s.place]))}
    empty = {s.place for s in settings if s.value is None} | forgotten
    for setting in settings:
        stays = setting.is_name and setting.place in readers and not empty.issuperset(setting.variables)
        if setting.place in forgotten or stays:  # a name that refers to what stays for others
            setting.section[setting.key] = None
    return nlp


def _settings(section: Mapping[str, Any], place: str = "") -> Iterator[Setting]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{place}{key}.")
        else:
            yield Setting(place=f"{place}{key}", section=cast(dict[str, Any], section), value=value)


def _readers_of_what_is_ours(settings: list[Setting]) -> dict[str, list[Setting]]:
    """For each name of our models, setting of the training and variable: who refers to it. Without what others read."""
    ours = {s.place: s for s in settings if s.is_name or s.top not in LOADED}
    readers = {place: [s for s in settings if s.reads(place)] for place in ours}
    while others := [place for place, found in readers.items() if any(s.place not in readers for s in found)]:
        for place in others:
            del readers[place]
    return readers


def _is_path(setting: Setting, *, is_read: bool) -> bool:
    """True for a value that belongs to this machine."""
    if not isinstance(setting.value, str) or setting.key.startswith("@"):
        return False
    if setting.top not in (*LOADED, *TRAINING_SECTIONS):  # variables, as in [paths]
        return is_read or setting.place in USUAL
    if setting.variables:
        return False
    is_kept_here = setting.is_name and Path(setting.value).exists()
    return is_kept_here or Path(setting.value).is_absolute() or (setting.top == "corpora" and setting.key == "path")


def create_forget_paths() -> Callable[[Language], Language]:
    """What `@callbacks = "spacy-electra.forget_paths.v1"` makes."""
    return forget_paths
