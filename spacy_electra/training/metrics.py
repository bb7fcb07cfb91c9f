"""What a held-out evaluation reports: both losses, the generator's accuracy, the discriminator's verdicts.

Accuracy of the discriminator alone says nothing (nine pieces of ten are original), so it is not among them.

Legend: N judged pieces.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from spacy_electra.model.electra import Output


def area_under_curve(scores: Tensor, is_positive: Tensor) -> float:
    """Chance that a positive piece scores above a negative one, ties counted half; NaN where either kind is absent.

    scores, is_positive: (N,). The Mann-Whitney form of the area under the ROC curve.
    """
    positives = int(is_positive.sum())
    negatives = is_positive.numel() - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = torch.unique(scores, sorted=True, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = (last - (counts - 1) / 2)[place]
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def evaluate(outputs: Iterable[tuple[Output, Tensor]], *, discriminator_weight: float) -> dict[str, float]:
    """Scores over batches of (output, is_real (B, T)).

    `loss` is the one that training lowers: generator + weight x discriminator. Where the objective has no
    discriminator, its scores are absent.
    """
    sums = {"loss": 0.0, "correct": 0.0, "count": 0.0, "verdict_loss": 0.0, "real": 0.0}
    scores, replaced = [], []
    for output, is_real in outputs:
        sums["loss"] += float(output.guesses.loss)
        sums["correct"] += float(output.guesses.correct)
        sums["count"] += float(output.guesses.count)
        if output.verdicts is not None and output.corrupted is not None:
            sums["verdict_loss"] += float(output.verdicts.loss)
            sums["real"] += float(output.verdicts.count)
            scores.append(output.verdicts.logits[is_real])
            replaced.append(output.corrupted.is_replaced[is_real])
    generator_loss = sums["loss"] / max(1.0, sums["count"])
    report = {"generator_loss": generator_loss, "generator_accuracy": sums["correct"] / max(1.0, sums["count"])}
    if not scores:
        return {"loss": generator_loss, **report}
    verdict_loss = sums["verdict_loss"] / max(1.0, sums["real"])
    report["discriminator_loss"] = verdict_loss
    report.update(verdict_scores(torch.cat(scores), torch.cat(replaced)))
    return {"loss": generator_loss + discriminator_weight * verdict_loss, **report}


def verdict_scores(scores: Tensor, is_replaced: Tensor) -> dict[str, float]:
    """Precision, recall and F1 of "replaced" (score above 0), and the area under the curve; scores (N,)."""
    found = scores > 0
    hits = float((found & is_replaced).sum())
    precision = hits / max(1.0, float(found.sum()))
    recall = hits / max(1.0, float(is_replaced.sum()))
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "auc": area_under_curve(scores.float(), is_replaced),
    }
