"""Load the teacher of a run from the section [teacher]."""

import torch

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.pretrainer import Pretrainer
from spacy_electra.model.teacher import load_teacher
from spacy_electra.training.distillation import Distillation
from spacy_electra.training.schema import Teacher


def make_distillation(
    section: Teacher | None, model: Pretrainer, tokenizer: WordPiece, device: torch.device
) -> Distillation | None:
    """Load the teacher of `model` onto `device`; None if the config has none. Raises the errors of `load_teacher`.

    tokenizer: of the run.
    """
    if section is None:
        return None
    teacher = load_teacher(
        section.name,
        tokenizer=tokenizer,
        window=model.attrs["window"],
        student=model.network.shape,
        layer=section.layer,
        student_layer=section.student_layer,
        relation_heads=section.relation_heads,
        device=device,
    )
    return Distillation(teacher=teacher, weight=section.weight, until=section.until)
