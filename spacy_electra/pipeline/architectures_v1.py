"""Version 1 of the architectures, for configs of version 0.1: the current ones, with the old names of two settings."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from spacy_electra.pipeline.architectures import build_electra_transformer, build_tok2vec_electra

Built = TypeVar("Built")
OLD_NAMES = {"max_batch_tokens": "max_slots", "gradual_unfreeze_steps": "unfreeze_every"}


def with_old_names(build: Callable[..., Built], name: str, old_names: Mapping[str, str]) -> Callable[..., Built]:
    """Wrap an architecture so that some settings have their old names; each call emits a DeprecationWarning.

    build: the current architecture; its defaults apply.
    name: the registered name, without version.
    old_names: the old name of each renamed setting, by its current name.
    """
    new_names = {old: new for new, old in old_names.items()}
    signature = inspect.signature(build)
    settings = [each.replace(name=old_names.get(each.name, each.name)) for each in signature.parameters.values()]
    told = " and ".join(f"{old} is called {new}" for old, new in new_names.items())

    @wraps(build)
    def build_with_old_names(**given: Any) -> Built:
        warnings.warn(
            f"{name}.v1 will go in the next minor version: in {name}.v2, {told}. Change these names in the config.",
            DeprecationWarning,
            stacklevel=2,
        )
        return build(**{new_names.get(key, key): value for key, value in given.items()})

    build_with_old_names.__signature__ = signature.replace(parameters=settings)  # type: ignore[attr-defined]
    return build_with_old_names


build_electra_transformer_v1 = with_old_names(build_electra_transformer, "spacy-electra.ElectraTransformer", OLD_NAMES)
build_tok2vec_electra_v1 = with_old_names(build_tok2vec_electra, "spacy-electra.Tok2VecElectra", OLD_NAMES)
