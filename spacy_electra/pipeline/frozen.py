"""Initialize frozen transformers, which spaCy leaves without weights."""

from collections.abc import Callable
from typing import Any

from confection import ConfigValidationError
from spacy.language import Language

from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.spacy_transformers_api import Transformer


def initialize_frozen(nlp: Language) -> Language:
    """Read the weights of disabled transformers that have none, and set the input width of their listeners.

    Used as `[initialize] before_init`: `spacy train` disables frozen components while it initializes the others.
    Returns `nlp`.

    Raises ConfigValidationError if listeners would be trained without vectors, or if the weights cannot be read.
    """
    training = nlp.config.interpolate()["training"]
    components: list[tuple[str, Any]] = list(nlp.components)
    for number, (name, component) in enumerate(components):
        if name in nlp.pipe_names or not isinstance(component, Transformer) or not _is_ours(component):
            continue
        _link(component, components[number:])
        learning = [listener for listener in component.listening_components if listener in nlp.pipe_names]
        is_frozen = name in training.get("frozen_components", [])
        if learning and is_frozen and name not in training.get("annotating_components", []):
            raise _unheard(name, learning)
        if (learning or is_frozen) and not component.model.has_dim("nO"):
            component.model.initialize()
            _link(component, components[number:])  # which now hear of the width
    return nlp


def _link(component: Transformer, others: list[tuple[str, Any]]) -> None:
    for _, other in others:
        component.find_listeners(other)


def _is_ours(component: Transformer) -> bool:
    return any(isinstance(shim, EncoderShim) for shim in component.model.shims)


def _unheard(name: str, learning: list[str]) -> ConfigValidationError:
    return ConfigValidationError(
        title="The frozen transformer gives its listeners nothing",
        desc=f"{name!r} is in [training] frozen_components but not in annotating_components, so that "
        f"{', '.join(learning)} would learn without its vectors. "
        f"Add it there: --training.annotating_components '[\"{name}\"]'.",
    )


def create_initialize_frozen() -> Callable[[Language], Language]:
    """Create the callback `spacy-electra.initialize_frozen.v1`."""
    return initialize_frozen
