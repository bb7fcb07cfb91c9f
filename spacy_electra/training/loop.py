"""The pretraining loop: yields facts, a record after each step. Whoever calls it saves, prints and stops."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from thinc.api import Optimizer
from torch import Tensor

from spacy_electra.data.masking import Masked, mask_rows
from spacy_electra.data.mixture import Mixture
from spacy_electra.data.packing import Packing
from spacy_electra.data.rows import Rows, Special
from spacy_electra.model.build import Batch, LossWeights, Pretrainer, network_of, shim_of
from spacy_electra.model.electra import Electra, Output
from spacy_electra.model.isolation import isolated
from spacy_electra.model.optimizer import kept_rate
from spacy_electra.model.teacher import TeacherEncoder
from spacy_electra.training.compiling import compiled_or_plain, forget_passes, keep_gradients, plain_passes
from spacy_electra.training.distillation import Distillation
from spacy_electra.training.distributed import ALONE, Ranks
from spacy_electra.training.feeding import feeding
from spacy_electra.training.memory import (
    AUTO,
    Portion,
    asked,
    even_portion,
    free_memory,
    kept_bytes,
    rows_that_fit,
    step_bytes,
    within_memory,
)
from spacy_electra.training.metrics import evaluate
from spacy_electra.training.schedule import Budget, rate_factor
from spacy_electra.training.schema import Training
from spacy_electra.training.state import State, Sums, check_finite, check_skipped

DEV_ROWS_AT_ONCE = 32  # where no run says what fits
LOOK_AT_SKIPS = 16  # steps; looking waits for the device
BEST_COUNTS_FROM = 0.5  # of the budget: earlier models are not worth keeping
# Seconds that a budget of minutes counts. Who wants those of the processor sets `time.process_time` before a run.
clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, beside the dev scores."""

    losses: dict[str, float]  # mean training losses since the last evaluation, by half
    scores: dict[str, float]  # dev scores
    gradient_norm: float  # of the step just taken, before the clip
    is_best: bool  # the lowest dev loss in the last half of the budget
    skipped: int = 0  # steps so far whose gradients were not finite


@dataclass(frozen=True)
class Facts:
    """What there is to know after a step."""

    state: State
    progress: float  # share of the budget spent, in [0, 1]
    epoch: int
    learn_rate: float  # of the step just taken
    evaluation: Evaluation | None = None  # when one took place


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What a step needs beside its rows."""

    model: Pretrainer
    optimizer: Optimizer  # its rate is the peak; the loop sets it before each step, and back at the end
    special: Special
    settings: Training
    ranks: Ranks = ALONE
    portion: Portion = field(default_factory=lambda: Portion(0))  # rows of a forward pass; 0 until `settle_portion`
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        rows = self.settings.batch_rows
        if rows < self.ranks.size:
            raise ValueError(
                f"training.batch_rows is {rows}, too few for {self.ranks.size} processes: each takes a part of every "
                f"step's rows. Raise it to {self.ranks.size} or more, or start fewer processes."
            )
        shim_of(self.model).before_step = self.ranks.add_gradients if self.ranks.size > 1 else None

    @property
    def teacher(self) -> TeacherEncoder | None:
        return self.distillation.teacher if self.distillation else None


@dataclass(frozen=True, kw_only=True)
class Task(Learner):
    """All that stays the same through a run."""

    train: Packing | Mixture
    dev: Packing
    budget: Budget
    device: torch.device

    def progress(self, state: State) -> float:
        return self.budget.progress(step=state.step, row=state.row, seconds=state.seconds)


def pretrain(task: Task, state: State) -> Iterator[Facts]:
    """Train from `state` until the budget is spent. An evaluation comes every `eval_frequency` steps and at the end.

    A step whose gradients are not finite is not taken. Raises Diverged, a ValueError, after more than
    `settings.most_skips` of them in a row, and where a loss is not finite.
    """
    peak = float(task.optimizer.learn_rate)
    settle_portion(task, state)
    begun = clock() - state.seconds
    progress = task.progress(state)
    if progress < BEST_COUNTS_FROM:  # the budget was raised since
        state = state.moved(best_loss=None)
    first, count = task.ranks.share(task.settings.batch_rows)
    with feeding(task.train, task.device, step=task.settings.batch_rows) as feed, kept_rate(task.optimizer):
        while progress < 1.0:
            rate = (
                peak * state.rate_share * rate_factor(progress=progress, step=state.step, warmup=task.settings.warmup)
            )
            task.optimizer.learn_rate = rate
            with isolated():
                sums = train_step(task, feed.batch(state.row + first, count), progress=progress)
            state = state.moved(
                step=state.step + 1,
                row=state.row + task.settings.batch_rows,
                seconds=task.ranks.spread_number(clock() - begun),
                sums=state.sums + sums,
                rows_at_once=task.portion.rows,
                asked_at_once=asked(task.settings.micro_batch),
            )
            progress = task.progress(state)
            facts = Facts(state, progress, epoch=state.row // task.train.rows, learn_rate=rate)
            if state.step % LOOK_AT_SKIPS == 0:
                check_skipped(skipped_steps(task)[0], state, most=task.settings.most_skips)
            if state.step % task.settings.eval_frequency == 0 or progress >= 1.0:
                facts = _evaluated(task, facts, begun=begun)
                state, progress = facts.state, facts.progress
            yield facts


@isolated()
def _evaluated(task: Task, facts: Facts, *, begun: float) -> Facts:
    """The facts with an evaluation, whose time counts as well. begun: when the clock of the budget stood at 0."""
    state = facts.state
    in_a_row, skipped = skipped_steps(task)
    check_skipped(in_a_row, state, most=task.settings.most_skips)
    losses = state.sums.means()
    shim = shim_of(task.model)
    scores = within_memory(task.portion, lambda: evaluate_dev(task), forget=lambda: forget_passes(shim))
    check_finite({**losses, "the dev set": scores["loss"]}, state)
    counts = facts.progress >= BEST_COUNTS_FROM
    is_best = counts and (state.best_loss is None or scores["loss"] < state.best_loss)
    state = state.moved(
        sums=Sums(),
        seconds=task.ranks.spread_number(clock() - begun),
        best_loss=scores["loss"] if is_best else state.best_loss,
    )
    norm = shim.gradient_norm
    assert norm is not None  # a step was taken
    evaluation = Evaluation(losses=losses, scores=scores, gradient_norm=float(norm), is_best=is_best, skipped=skipped)
    return replace(facts, state=state, progress=task.progress(state), evaluation=evaluation)


def train_step(learner: Learner, rows: Rows, *, progress: float = 0.0) -> Sums:
    """One optimizer step on this rank's rows, in micro-batches; the sums of the losses of all ranks' rows.

    The losses are means over the whole step, so every micro-batch is weighed by the step's counts, not by its own.
    progress: share of the budget that is spent, which a teacher's weight follows.
    Out of memory, the same rows with the same masks are taken again in smaller ones; plainly, where compiling fails.
    """
    shim = shim_of(learner.model)
    masked = _masked(learner, rows)
    chosen = masked.positions.weight.sum()
    real = rows.is_real.sum(dtype=torch.float32)
    chosen, real = learner.ranks.add(torch.stack([chosen, real])).unbind()
    teacher_weight = learner.distillation.weight_at(progress) if learner.distillation else 0.0
    weights = LossWeights(
        generator=1.0 / chosen.clamp(min=1.0),
        discriminator=learner.settings.discriminator_weight / real.clamp(min=1.0),
        teacher=teacher_weight / real.clamp(min=1.0),
    )
    batch = Batch(rows=rows, masked=masked, teacher=learner.teacher if teacher_weight else None)
    losses = within_memory(
        learner.portion,
        lambda: compiled_or_plain(shim, lambda: _gather_gradients(learner, batch, weights)),
        forget=lambda: forget_passes(shim),
    )
    learner.model.finish_update(learner.optimizer)
    counted = torch.cat([learner.ranks.add(losses), torch.stack([chosen, real])])
    counted = torch.where(counted.isfinite().all(), counted, 0.0)  # a lost step is none
    guessed, judged, compared, chosen, real = counted.unbind()
    sums = Sums(generator=guessed, chosen=chosen)
    if isinstance(network_of(learner.model), Electra):
        sums = replace(sums, discriminator=judged, judged=real)
    return replace(sums, teacher=compared, compared=real) if teacher_weight else sums


def skipped_steps(task: Task) -> tuple[int, int]:
    """Steps that were not taken: since the last one that was, and in all. Waits for the device."""
    in_a_row, in_all = shim_of(task.model).adamw_for(task.optimizer).skipped.tolist()
    return int(in_a_row), int(in_all)


def _gather_gradients(learner: Learner, batch: Batch, weights: LossWeights) -> Tensor:
    """Add up the gradients of the rows, a portion at a time; (3,) the sums of the losses as `_losses` has them."""
    losses = torch.zeros(3, dtype=torch.float32, device=batch.rows.ids.device)
    size = learner.portion.rows or len(batch.rows)
    parts = list(zip(batch.rows.split(size), batch.masked.split(size), strict=True))
    for number, (rows, masked) in enumerate(parts):
        output, backprop = learner.model.begin_update(replace(batch, rows=rows, masked=masked))
        backprop(weights)
        losses += _losses(output)
        if number == 0 and len(parts) > 1:
            keep_gradients(shim_of(learner.model))
    return losses


@isolated()
def settle_portion(task: Task, state: State) -> None:
    """Decide, once for a task, how many rows go through the model at once: as before, as set, or as many as fit.

    As before where `state` has run with the same setting. All ranks decide alike.
    """
    if task.portion.rows:
        return
    most, setting = task.ranks.largest_share(task.settings.batch_rows), asked(task.settings.micro_batch)
    if state.rows_at_once and state.asked_at_once == setting:
        rows = state.rows_at_once
    elif setting != AUTO:
        rows = setting or most
    else:
        free = free_memory(task.device) - step_bytes(network_of(task.model))
        fit = rows_that_fit(lambda count: _kept(task, count), free=free, most=most)
        rows = even_portion(most, most=fit)
    task.portion.rows = task.ranks.least(min(most, rows))
    shim_of(task.model).adamw_for(task.optimizer)  # its moments before the first pass, which may be done again


def _kept(task: Task, count: int) -> int:
    """Bytes that the forward pass of `count` rows keeps. Nothing random is used up by it."""
    rows = task.train.batch(0, count).to(task.device)
    batch = Batch(rows=rows, masked=_masked(task, rows), teacher=task.teacher)
    with plain_passes(shim_of(task.model)):
        return kept_bytes(lambda: task.model.begin_update(batch), network_of(task.model))


def _losses(output: Output) -> Tensor:
    """(3,) the sums of the generator's, the discriminator's and the teacher's losses, without gradient."""
    guessed = output.guesses.loss.detach()
    judged = torch.zeros_like(guessed) if output.verdicts is None else output.verdicts.loss.detach()
    compared = torch.zeros_like(guessed) if output.teacher_loss is None else output.teacher_loss.detach()
    return torch.stack([guessed, judged, compared])


def _masked(learner: Learner, rows: Rows) -> Masked:
    settings = learner.settings
    return mask_rows(rows, learner.special, rate=settings.mask_rate, keep_rate=settings.keep_rate)


@isolated()
def evaluate_dev(task: Task, *, on_rows: Callable[[int], object] = lambda count: None) -> dict[str, float]:
    """Scores on the held-out rows: always the same rows, masks and samples, since the keys are those of epoch 0.

    on_rows: called with the rows scored since the last call.
    """
    return evaluate(_dev_outputs(task, on_rows), discriminator_weight=task.settings.discriminator_weight)


def _dev_outputs(task: Task, on_rows: Callable[[int], object]) -> Iterator[tuple[Output, Tensor]]:
    most = min(task.settings.dev_rows, task.dev.rows)
    size = task.portion.rows or min(task.settings.batch_rows, DEV_ROWS_AT_ONCE)
    for first in range(0, most, size):
        rows = task.dev.batch(first, min(size, most - first)).to(task.device)
        yield task.model.predict(Batch(rows=rows, masked=_masked(task, rows))), rows.is_real
        on_rows(len(rows))
