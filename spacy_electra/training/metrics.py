"""Metrics of a held-out evaluation: both losses, accuracy of the generator, precision and recall of the discriminator.

The discriminator's accuracy is not among them: nine pieces of ten are original, so it is always high.

Legend: B rows, T pieces a row, N scored pieces.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from spacy_electra.model.network.electra import Output

# All names of scores; those of the discriminator are absent where the objective has none
SCORES = (
    "loss",
    "generator_loss",
    "generator_accuracy",
    "discriminator_loss",
    "precision",
    "recall",
    "f1",
    "auc",
)


def evaluate(outputs: Iterable[tuple[Output, Tensor]], *, discriminator_weight: float) -> dict[str, float]:
    """Scores over batches.

    `loss` is the training loss: generator + weight x discriminator. Without a discriminator its scores are absent.

    outputs: pairs of output and is_real (B, T).
    discriminator_weight: factor of the discriminator's loss.
    Raises ValueError if there were no masked pieces.
    """
    guess_loss = correct = chosen = verdict_loss = 0.0
    logits, is_replaced = [], []
    for output, is_real in outputs:
        guess_loss += float(output.generator.loss)
        correct += float(output.generator.correct)
        chosen += float(output.generator.count)
        if output.discriminator is not None and output.corrupted is not None:
            verdict_loss += float(output.discriminator.loss)
            logits.append(output.discriminator.logits[is_real].cpu())  # ranks need float64, which not every device has
            is_replaced.append(output.corrupted.is_replaced[is_real].cpu())
    if not chosen:
        raise ValueError("there is nothing to evaluate: the held-out rows have no piece to guess.")
    report = {"generator_loss": guess_loss / chosen, "generator_accuracy": correct / chosen}
    if not logits:
        return {"loss": report["generator_loss"], **report}
    report["discriminator_loss"] = verdict_loss / sum(len(part) for part in logits)
    report.update(verdict_scores(torch.cat(logits), torch.cat(is_replaced)))
    return {"loss": report["generator_loss"] + discriminator_weight * report["discriminator_loss"], **report}


def verdict_scores(logits: Tensor, is_replaced: Tensor) -> dict[str, float]:
    """Precision, recall and F1 of "replaced" (logit above 0), and the area under the ROC curve.

    logits, is_replaced: (N,). A ratio whose denominator is 0 counts as 0.
    """
    found = logits > 0
    hits = float((found & is_replaced).sum())
    precision = hits / max(1.0, float(found.sum()))
    recall = hits / max(1.0, float(is_replaced.sum()))
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "auc": area_under_curve(logits.float(), is_replaced),
    }


def area_under_curve(scores: Tensor, is_positive: Tensor) -> float:
    """Area under the ROC curve: the probability that a positive piece scores above a negative one, ties counted half.

    It is 0.5 if either class is absent. Computed by the Mann-Whitney statistic.

    scores, is_positive: (N,).
    """
    positives = int(is_positive.sum())
    negatives = is_positive.numel() - positives
    if not positives or not negatives:
        return 0.5
    _, place, counts = torch.unique(scores, sorted=True, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()  # rank of the last piece with each score
    ranks = (last - (counts - 1) / 2)[place]
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
