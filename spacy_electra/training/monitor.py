"""Detect on the dev set that a run has collapsed. Takes results, returns warnings with advice, each once."""

from spacy_electra.training.loop import StepResult

AFTER = 0.25  # of the budget: the plateau that every run begins with is over by then
IN_A_ROW = 3  # evaluations that must agree
BLIND = 0.52  # area under the curve of a discriminator that tells nothing apart
FLAT = 0.98  # of the first generator loss: one that stays above it has learned nothing

ADVICE = {
    "discriminator": (
        "the discriminator tells replaced pieces from original ones no better than chance (AUC {value:.2f}). "
        "Such a run rarely recovers: halve training.optimizer.learn_rate or lengthen training.warmup; at small widths "
        "set model.generator to null, so that the same body guesses and judges, or lower training.discriminator_weight."
    ),
    "generator": (
        "the generator has learned next to nothing (loss {value:.2f}, at the first evaluation {first:.2f}): lower "
        "training.optimizer.learn_rate if the loss jumps about, raise it if it creeps, and look at the text with "
        "`spacy electra debug data`."
    ),
}


class Alarms:
    """Watches the evaluations of a run; a call returns the new warnings."""

    def __init__(self, *, first: float | None = None) -> None:
        """first: generator loss of the run's first evaluation; None if it is yet to come. Infinity for a run from
        pretrained weights, whose loss may stay where it is.
        """
        self.first = first
        self.signs: dict[str, int] = dict.fromkeys(ADVICE, 0)  # evaluations in a row that show them
        self.told: set[str] = set()

    def __call__(self, result: StepResult) -> list[str]:
        """The new warnings after a step, usually none."""
        if result.evaluation is None:
            return []
        scores = result.evaluation.scores
        loss = scores["generator_loss"]
        self.first = self.first if self.first is not None else loss
        values = {"discriminator": scores.get("auc", 1.0), "generator": loss}
        shows = {"discriminator": values["discriminator"] < BLIND, "generator": loss > FLAT * self.first}
        for name, is_shown in shows.items():
            counts = is_shown and result.progress >= AFTER
            self.signs[name] = self.signs[name] + 1 if counts else 0
        new = [name for name, count in self.signs.items() if count >= IN_A_ROW and name not in self.told]
        self.told.update(new)
        return [ADVICE[name].format(value=values[name], first=self.first) for name in new]
