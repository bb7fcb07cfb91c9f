"""The arguments of a step beside its rows, and the constants of a run."""

from dataclasses import dataclass, field

import torch
from thinc.api import Optimizer

from spacy_electra.data.batch import Special
from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing
from spacy_electra.model.pretrainer import Pretrainer
from spacy_electra.model.teacher import TeacherEncoder
from spacy_electra.training.distillation import Distillation
from spacy_electra.training.distributed import ALONE, Ranks
from spacy_electra.training.memory import (
    MicroBatchSize,
)
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training
from spacy_electra.training.state import State


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """The arguments of a step beside its rows."""

    model: Pretrainer
    optimizer: Optimizer  # its rate is the peak; the loop sets it before each step, and back at the end
    special: Special
    settings: Training
    ranks: Ranks = ALONE
    # Rows of a forward pass; 0 until `settle_micro_batch`
    micro_batch: MicroBatchSize = field(default_factory=lambda: MicroBatchSize(0))
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        rows = self.settings.batch_rows
        if rows < self.ranks.size:
            raise ValueError(
                f"training.batch_rows is {rows}, too few for {self.ranks.size} processes: each takes a part of every "
                f"step's rows. Raise it to {self.ranks.size} or more, or start fewer processes."
            )
        self.model.shim.steps.before_step = self.ranks.add_gradients if self.ranks.size > 1 else None

    @property
    def teacher(self) -> TeacherEncoder | None:
        return self.distillation.teacher if self.distillation else None


@dataclass(frozen=True, kw_only=True)
class RunContext(TrainContext):
    """The constants of a run."""

    train: Packing | Mixture
    dev: Packing
    budget: Budget
    device: torch.device

    def progress(self, state: State) -> float:
        return self.budget.progress(step=state.step, row=state.row, seconds=state.seconds)
