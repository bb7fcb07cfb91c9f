"""Take the training machine's paths out of a pipeline's config, before it is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spacy.language import Language

OURS = "spacy-electra."


def forget_paths(nlp: Language) -> Language:
    """Set [paths] and every `name` of our architectures that is a path to null; names on the hub stay.

    As `[training] before_to_disk`, for the weights of the transformer are saved with the pipeline. Returns `nlp`.
    """
    config = nlp.config
    paths = config.get("paths", {})
    paths.update(dict.fromkeys(paths))
    for name in nlp.component_names:
        _forget_names(nlp.get_pipe_config(name))
    return nlp


def _forget_names(section: dict[str, Any]) -> None:
    if str(section.get("@architectures", "")).startswith(OURS) and _is_path(section.get("name")):
        section["name"] = None
    for value in section.values():
        if isinstance(value, dict):
            _forget_names(value)


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and (Path(name).is_absolute() or Path(name).exists())


def create_forget_paths() -> Callable[[Language], Language]:
    """What `@callbacks = "spacy-electra.forget_paths.v1"` makes."""
    return forget_paths
