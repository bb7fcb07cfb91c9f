"""How much a teacher counts in the course of a run."""

from dataclasses import dataclass

from spacy_electra.model.teacher import TeacherEncoder


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher, and what its loss counts for beside those of the objective."""

    teacher: TeacherEncoder
    weight: float  # of its loss at the beginning
    until: float  # share of the budget after which it counts for nothing

    def weight_at(self, progress: float) -> float:
        """The weight falls linearly from the beginning of the budget on; progress: share of the budget spent."""
        return self.weight * max(0.0, 1.0 - progress / self.until)
