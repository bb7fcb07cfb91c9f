"""Keys of a pretraining config that had another name in version 0.1. The old name still works in this version."""

from collections.abc import Mapping
from typing import Any

from confection import Config

from spacy_electra.cli.errors import warn

RENAMED = {
    "training.micro_batch": "training.micro_batch_size",
    "training.keep_rate": "training.unmasked_fraction",
    "training.most_skips": "training.max_skipped_steps",
    "training.when_diverged": "training.on_divergence",
}
RENAMED_VALUES = {("training.on_divergence", "go back"): "rollback"}


def rename_keys(config: Config) -> list[str]:
    """Rename the old keys of a config in place; returns the old names that it had.

    config: not resolved. If a key is there under both names, the value of the new name is kept.
    """
    old_names = []
    for old, new in RENAMED.items():
        (top, key), (_, new_key) = old.split("."), new.split(".")
        section = config.get(top)
        if isinstance(section, dict) and key in section:
            value = section.pop(key)
            section.setdefault(new_key, RENAMED_VALUES.get((new, value), value))
            old_names.append(old)
    return old_names


def rename_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The overrides of a command line under their new names, and the old names among them."""
    named: dict[str, Any] = {}
    for name, value in overrides.items():
        new = RENAMED.get(name, name)
        named[new] = RENAMED_VALUES.get((new, value), value) if new != name else value
    return named, [name for name in overrides if name in RENAMED]


def warn_of_old_names(names: list[str]) -> None:
    """Warn once for each old name."""
    for name in dict.fromkeys(names):
        warn(f"{name} is called {RENAMED[name]} now; the older name will go in the next minor version.")
