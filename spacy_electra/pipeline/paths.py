"""Remove paths on the training machine from a pipeline's config before it is saved; settings that others read stay."""

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
    """A value in a config, and where it is."""

    place: str  # as "paths.train"
    section: dict[str, Any]
    value: Any

    @property
    def key(self) -> str:
        """Last part of its dotted name, such as "train" of "paths.train"."""
        return self.place.rpartition(".")[2]

    @property
    def top(self) -> str:
        """First part of its dotted name, such as "paths" of "paths.train"."""
        return self.place.partition(".")[0]

    @property
    def is_name(self) -> bool:
        """True for the `name` from which one of our architectures reads its weights."""
        is_ours = str(self.section.get("@architectures", "")).startswith(OURS)
        return is_ours and self.key == "name" and self.value is not None

    @property
    def variables(self) -> list[str]:
        """Dotted names of the variables in the value, such as "paths.train"."""
        return [name.replace(":", ".") for name in VARIABLE.findall(str(self.value))]

    def reads(self, place: str) -> bool:
        """True if the value refers to a setting, or to a section that contains it.

        place: dotted name of the setting.
        """
        return any(place == name or place.startswith(f"{name}.") for name in self.variables)


def forget_paths(nlp: Language) -> Language:
    """Set paths to null that only this package and spaCy's training read; hub names and paths that others read stay.

    Used as `[training] before_to_disk`: the weights of the transformer are saved with the pipeline. Returns `nlp`.
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
    """The settings that refer to each model name, training setting and variable of ours; none that others read."""
    ours = {s.place: s for s in settings if s.is_name or s.top not in LOADED}
    readers = {place: [s for s in settings if s.reads(place)] for place in ours}
    while others := [place for place, found in readers.items() if any(s.place not in readers for s in found)]:
        for place in others:
            del readers[place]
    return readers


def _is_path(setting: Setting, *, is_read: bool) -> bool:
    """True if the value is a path on this machine."""
    if not isinstance(setting.value, str) or setting.key.startswith("@"):
        return False
    if setting.top not in (*LOADED, *TRAINING_SECTIONS):  # variables, as in [paths]
        return is_read or setting.place in USUAL
    if setting.variables:
        return False
    is_kept_here = setting.is_name and Path(setting.value).exists()
    return is_kept_here or Path(setting.value).is_absolute() or (setting.top == "corpora" and setting.key == "path")


def create_forget_paths() -> Callable[[Language], Language]:
    """Create the callback `spacy-electra.forget_paths.v1`."""
    return forget_paths
