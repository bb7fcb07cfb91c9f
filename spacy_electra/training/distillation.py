"""The weight of a teacher's loss in the course of a run."""

from dataclasses import dataclass

from spacy_electra.model.teacher import TeacherEncoder


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher and the weight of its loss."""

    teacher: TeacherEncoder
    weight: float  # of its loss at the beginning
    until: float  # share of the budget after which it counts for nothing

    def weight_at(self, progress: float) -> float:
        """The weight, which falls linearly from the start of the budget.

        progress: share of the budget that is spent.
        """
        return self.weight * max(0.0, 1.0 - progress / self.until)
