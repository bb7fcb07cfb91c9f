"""The pretraining loop: yields facts, a record after each step. Whoever calls it saves, prints and stops.

Legend: B rows, T pieces a row, K chosen positions a row.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from thinc.api import Model, Optimizer
from torch import Tensor

from spacy_electra.data.masking import mask_rows
from spacy_electra.data.packing import Packing
from spacy_electra.data.rows import Rows, Special
from spacy_electra.model.build import Batch, LossWeights
from spacy_electra.model.electra import Output
from spacy_electra.training.checkpoint import State
from spacy_electra.training.metrics import evaluate
from spacy_electra.training.schedule import Budget, rate_factor
from spacy_electra.training.schema import Training

Pretrainer = Model[Batch, Output]


@dataclass(frozen=True)
class Facts:
    """What there is to know after a step."""

    state: State
    progress: float  # share of the budget spent, in [0, 1]
    epoch: int
    learn_rate: float  # of the step just taken
    gradient_norm: float | None  # before the clip; None where it was not asked for
    losses: dict[str, float] | None  # mean training losses since the last evaluation, when one took place
    scores: dict[str, float] | None  # dev scores, when one took place
    is_best: bool  # the lowest dev loss in the last half of the budget


@dataclass(frozen=True)
class Task:
    """All that stays the same through a run."""

    model: Pretrainer
    optimizer: Optimizer
    train: Packing
    dev: Packing
    special: Special
    budget: Budget
    settings: Training
    device: torch.device


def pretrain(task: Task, state: State) -> Iterator[Facts]:
    """Train from `state` until the budget is spent. An evaluation comes every `eval_frequency` steps and at the end."""
    peak = float(task.optimizer.learn_rate)
    clock = time.monotonic() - state.seconds
    progress = _progress(task, state)
    while progress < 1.0:
        factor = rate_factor(progress=progress, step=state.step, warmup=task.settings.warmup)
        task.optimizer.learn_rate = peak * factor
        sums = train_step(task, task.train.batch(state.row, task.settings.batch_rows).to(task.device))
        state = state.moved(
            step=state.step + 1,
            row=state.row + task.settings.batch_rows,
            seconds=time.monotonic() - clock,
            sums={name: state.sums.get(name, 0.0) + value for name, value in sums.items()},
        )
        progress = _progress(task, state)
        losses = scores = None
        is_best = False
        if state.step % task.settings.eval_frequency == 0 or progress >= 1.0:
            losses, scores = _means(state.sums), evaluate_dev(task)
            is_best = progress >= 0.5 and (state.best_loss is None or scores["loss"] < state.best_loss)
            state = state.moved(
                sums={},
                seconds=time.monotonic() - clock,
                best_loss=scores["loss"] if is_best else state.best_loss,
            )
            progress = _progress(task, state)
        yield Facts(
            state=state,
            progress=progress,
            epoch=state.row // task.train.rows,
            learn_rate=peak * factor,
            gradient_norm=None,
            losses=losses,
            scores=scores,
            is_best=is_best,
        )
    task.optimizer.learn_rate = peak


def _progress(task: Task, state: State) -> float:
    return task.budget.progress(step=state.step, row=state.row, seconds=state.seconds)


def train_step(task: Task, rows: Rows) -> dict[str, float]:
    """One optimizer step on a batch, in micro-batches; sums of losses and of what they count.

    Both losses are means over the whole step, so every micro-batch is weighed by the step's counts, not by its own.
    """
    batches = list(_batches(task, rows))
    chosen = sum(float(batch.masked.positions.weight.sum()) for batch in batches)
    real = float(rows.is_real.sum())
    weights = LossWeights(
        generator=1.0 / max(1.0, chosen), discriminator=task.settings.discriminator_weight / max(1.0, real)
    )
    sums = {"generator": 0.0, "discriminator": 0.0, "chosen": chosen, "real": real, "steps": 1.0}
    for batch in batches:
        output, backprop = task.model.begin_update(batch)
        backprop(weights)
        sums["generator"] += float(output.guesses.loss)
        if output.verdicts is not None:
            sums["discriminator"] += float(output.verdicts.loss)
    task.model.finish_update(task.optimizer)
    return sums


def _batches(task: Task, rows: Rows) -> Iterator[Batch]:
    for part in rows.split(task.settings.micro_batch or len(rows)):
        masked = mask_rows(part, task.special, rate=task.settings.mask_rate, keep_rate=task.settings.keep_rate)
        yield Batch(rows=part, masked=masked)


def _means(sums: dict[str, float]) -> dict[str, float]:
    return {
        "generator": sums["generator"] / max(1.0, sums["chosen"]),
        "discriminator": sums["discriminator"] / max(1.0, sums["real"]),
    }


def evaluate_dev(task: Task) -> dict[str, float]:
    """Scores on the held-out rows: always the same rows, masks and samples, since the keys are those of epoch 0."""
    return evaluate(_dev_outputs(task), discriminator_weight=task.settings.discriminator_weight)


def _dev_outputs(task: Task) -> Iterator[tuple[Output, Tensor]]:
    most = min(task.settings.dev_rows, task.dev.rows)
    size = task.settings.micro_batch or task.settings.batch_rows
    for first in range(0, most, size):
        rows = task.dev.batch(first, min(size, most - first)).to(task.device)
        for batch in _batches(task, rows):
            yield task.model.predict(batch), batch.rows.is_real
