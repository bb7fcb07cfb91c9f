"""Average the weights of several models that started from the same weights.

Weights between a start and a fine-tuned model often keep the abilities of both (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models" and "Model soups"). Takes saved models, returns another; pure.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from spacy_electra.model.files.saved_model import SavedModel


def averaged(models: Sequence[SavedModel], shares: Sequence[float]) -> SavedModel:
    """The weighted mean of each weight, over those models that have it.

    models: of one shape; heads may be missing.
    shares: a weight above 0 for each model; they are divided by their sum.
    Returns a model in float32, with the first one's folder and family.
    Raises ValueError if shapes differ.
    """
    first = models[0]
    for other in models[1:]:
        if different := [name for name in vars(first.shape) if vars(first.shape)[name] != vars(other.shape)[name]]:
            told = ", ".join(f"{name} is {vars(first.shape)[name]} and {vars(other.shape)[name]}" for name in different)
            raise ValueError(
                f"{first.folder} and {other.folder} are of different shapes ({told}): only models of one shape, best "
                f"those that started from the same weights, have an average."
            )
    names = dict.fromkeys(name for model in models for name in model.weights)
    return replace(first, weights={name: _mean(name, models, shares) for name in names})


def _mean(name: str, models: Sequence[SavedModel], shares: Sequence[float]) -> Tensor:
    owners = [(model, share) for model, share in zip(models, shares, strict=True) if name in model.weights]
    total = sum(share for _, share in owners)
    mean = owners[0][0].weights[name].float() * (owners[0][1] / total)
    for model, share in owners[1:]:
        weight = model.weights[name]
        if weight.shape != mean.shape:
            raise ValueError(
                f"{name!r} has shape {tuple(mean.shape)} in {owners[0][0].folder}, but {tuple(weight.shape)} in "
                f"{model.folder}: they have no average."
            )
        mean += weight.float() * (share / total)
    return mean
