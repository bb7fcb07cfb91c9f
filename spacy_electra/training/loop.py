"""The pretraining loop: yields result, a record after each step. Whoever calls it saves, prints and stops."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from thinc.api import Optimizer
from torch import Tensor

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import Masked, mask_rows
from spacy_electra.data.batches.mixture import Mixture
from spacy_electra.data.batches.packing import Packing
from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.electra import Electra, Output
from spacy_electra.model.optim.adamw import kept_rate
from spacy_electra.model.pretrainer import Batch, LossWeights, Pretrainer, network_of, shim_of
from spacy_electra.model.teacher import TeacherEncoder
from spacy_electra.training.compiling import compiled_or_plain, forget_passes, keep_gradients, plain_passes
from spacy_electra.training.distillation import Distillation
from spacy_electra.training.distributed import ALONE, Ranks
from spacy_electra.training.memory import (
    AUTO,
    MicroBatchSize,
    asked,
    even_micro_batch,
    free_memory,
    kept_bytes,
    rows_that_fit,
    step_bytes,
    within_memory,
)
from spacy_electra.training.metrics import evaluate
from spacy_electra.training.prefetch import feeding
from spacy_electra.training.schedule import Budget, rate_factor
from spacy_electra.training.schema import Training
from spacy_electra.training.state import State, Sums, check_finite, check_skipped

DEV_MICRO_BATCH_SIZE = 32  # where no run says what fits
LOOK_AT_SKIPS = 16  # steps; looking waits for the device
BEST_COUNTS_FROM = 0.5  # of the budget: earlier models are not worth keeping
# Seconds that a budget of minutes counts. Who wants those of the processor sets `time.process_time` before a run.
budget_clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, beside the dev scores."""

    losses: dict[str, float]  # mean training losses since the last evaluation, by half
    scores: dict[str, float]  # dev scores
    gradient_norm: float  # of the step just taken, before the clip
    is_best: bool  # the lowest dev loss in the last half of the budget
    skipped: int = 0  # steps so far whose gradients were not finite


@dataclass(frozen=True)
class StepResult:
    """What there is to know after a step."""

    state: State
    progress: float  # share of the budget spent, in [0, 1]
    epoch: int
    learn_rate: float  # of the step just taken
    evaluation: Evaluation | None = None  # when one took place


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a step needs beside its rows."""

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
        shim_of(self.model).before_step = self.ranks.add_gradients if self.ranks.size > 1 else None

    @property
    def teacher(self) -> TeacherEncoder | None:
        return self.distillation.teacher if self.distillation else None


@dataclass(frozen=True, kw_only=True)
class RunContext(TrainContext):
    """All that stays the same through a run."""

    train: Packing | Mixture
    dev: Packing
    budget: Budget
    device: torch.device

    def progress(self, state: State) -> float:
        return self.budget.progress(step=state.step, row=state.row, seconds=state.seconds)


def pretrain(context: RunContext, state: State) -> Iterator[StepResult]:
    """Train from `state` until the budget is spent. An evaluation comes every `eval_frequency` steps and at the end.

    A step whose gradients are not finite is not taken. Raises Diverged, a ValueError, after more than
    `settings.max_skipped_steps` of them in a row, and where a loss is not finite.
    """
    peak = float(context.optimizer.learn_rate)
    settle_micro_batch(context, state)
    begun = budget_clock() - state.seconds
    progress = context.progress(state)
    if progress < BEST_COUNTS_FROM:  # the budget was raised since
        state = state.moved(best_loss=None)
    first, count = context.ranks.share(context.settings.batch_rows)
    with feeding(context.train, context.device, step=context.settings.batch_rows) as feed, kept_rate(context.optimizer):
        while progress < 1.0:
            rate = (
                peak * state.lr_scale * rate_factor(progress=progress, step=state.step, warmup=context.settings.warmup)
            )
            context.optimizer.learn_rate = rate
            with isolated():
                sums = train_step(context, feed.batch(state.row + first, count), progress=progress)
            state = state.moved(
                step=state.step + 1,
                row=state.row + context.settings.batch_rows,
                seconds=context.ranks.spread_number(budget_clock() - begun),
                sums=state.sums + sums,
                micro_batch_size=context.micro_batch.rows,
                asked_micro_batch_size=asked(context.settings.micro_batch_size),
            )
            progress = context.progress(state)
            result = StepResult(state, progress, epoch=state.row // context.train.rows, learn_rate=rate)
            if state.step % LOOK_AT_SKIPS == 0:
                check_skipped(skipped_steps(context)[0], state, most=context.settings.max_skipped_steps)
            if state.step % context.settings.eval_frequency == 0 or progress >= 1.0:
                result = _evaluated(context, result, begun=begun)
                state, progress = result.state, result.progress
            yield result


@isolated()
def _evaluated(context: RunContext, result: StepResult, *, begun: float) -> StepResult:
    """The result with an evaluation, whose time counts as well. begun: when the clock of the budget stood at 0."""
    state = result.state
    in_a_row, skipped = skipped_steps(context)
    check_skipped(in_a_row, state, most=context.settings.max_skipped_steps)
    losses = state.sums.means()
    shim = shim_of(context.model)
    scores = within_memory(context.micro_batch, lambda: evaluate_dev(context), forget=lambda: forget_passes(shim))
    check_finite({**losses, "the dev set": scores["loss"]}, state)
    counts = result.progress >= BEST_COUNTS_FROM
    is_best = counts and (state.best_loss is None or scores["loss"] < state.best_loss)
    state = state.moved(
        sums=Sums(),
        seconds=context.ranks.spread_number(budget_clock() - begun),
        best_loss=scores["loss"] if is_best else state.best_loss,
    )
    norm = shim.gradient_norm
    assert norm is not None  # a step was taken
    evaluation = Evaluation(losses=losses, scores=scores, gradient_norm=float(norm), is_best=is_best, skipped=skipped)
    return replace(result, state=state, progress=context.progress(state), evaluation=evaluation)


def train_step(context: TrainContext, rows: Rows, *, progress: float = 0.0) -> Sums:
    """One optimizer step on this rank's rows, in micro-batches; the sums of the losses of all ranks' rows.

    The losses are means over the whole step, so every micro-batch is weighed by the step's counts, not by its own.
    progress: share of the budget that is spent, which a teacher's weight follows.
    Out of memory, the same rows with the same masks are taken again in smaller ones; plainly, where compiling fails.
    """
    shim = shim_of(context.model)
    masked = _masked(context, rows)
    chosen = masked.positions.weight.sum()
    real = rows.is_real.sum(dtype=torch.float32)
    chosen, real = context.ranks.add(torch.stack([chosen, real])).unbind()
    teacher_weight = context.distillation.weight_at(progress) if context.distillation else 0.0
    weights = LossWeights(
        generator=1.0 / chosen.clamp(min=1.0),
        discriminator=context.settings.discriminator_weight / real.clamp(min=1.0),
        teacher=teacher_weight / real.clamp(min=1.0),
    )
    batch = Batch(rows=rows, masked=masked, teacher=context.teacher if teacher_weight else None)
    losses = within_memory(
        context.micro_batch,
        lambda: compiled_or_plain(shim, lambda: _gather_gradients(context, batch, weights)),
        forget=lambda: forget_passes(shim),
    )
    context.model.finish_update(context.optimizer)
    counted = torch.cat([context.ranks.add(losses), torch.stack([chosen, real])])
    counted = torch.where(counted.isfinite().all(), counted, 0.0)  # a lost step is none
    guessed, judged, compared, chosen, real = counted.unbind()
    sums = Sums(generator=guessed, chosen=chosen)
    if isinstance(network_of(context.model), Electra):
        sums = replace(sums, discriminator=judged, judged=real)
    return replace(sums, teacher=compared, compared=real) if teacher_weight else sums


def skipped_steps(context: RunContext) -> tuple[int, int]:
    """Steps that were not taken: since the last one that was, and in all. Waits for the device."""
    in_a_row, in_all = shim_of(context.model).adamw_for(context.optimizer).skipped.tolist()
    return int(in_a_row), int(in_all)


def _gather_gradients(context: TrainContext, batch: Batch, weights: LossWeights) -> Tensor:
    """Add up the gradients of the rows, a micro-batch at a time; (3,) the sums of the losses as `_losses` has them."""
    losses = torch.zeros(3, dtype=torch.float32, device=batch.rows.ids.device)
    size = context.micro_batch.rows or len(batch.rows)
    parts = list(zip(batch.rows.split(size), batch.masked.split(size), strict=True))
    for number, (rows, masked) in enumerate(parts):
        output, backprop = context.model.begin_update(replace(batch, rows=rows, masked=masked))
        backprop(weights)
        losses += _losses(output)
        if number == 0 and len(parts) > 1:
            keep_gradients(shim_of(context.model))
    return losses


@isolated()
def settle_micro_batch(context: RunContext, state: State) -> None:
    """Decide, once for a context, how many rows go through the model at once: as before, as set, or as many as fit.

    As before where `state` has run with the same setting. All ranks decide alike.
    """
    if context.micro_batch.rows:
        return
    most, setting = context.ranks.largest_share(context.settings.batch_rows), asked(context.settings.micro_batch_size)
    if state.micro_batch_size and state.asked_micro_batch_size == setting:
        rows = state.micro_batch_size
    elif setting != AUTO:
        rows = setting or most
    else:
        free = free_memory(context.device) - step_bytes(network_of(context.model))
        fit = rows_that_fit(lambda count: _kept(context, count), free=free, most=most)
        rows = even_micro_batch(most, most=fit)
    context.micro_batch.rows = context.ranks.least(min(most, rows))
    shim_of(context.model).adamw_for(context.optimizer)  # its moments before the first pass, which may be done again


def _kept(context: RunContext, count: int) -> int:
    """Bytes that the forward pass of `count` rows keeps. Nothing random is used up by it."""
    rows = context.train.batch(0, count).to(context.device)
    batch = Batch(rows=rows, masked=_masked(context, rows), teacher=context.teacher)
    with plain_passes(shim_of(context.model)):
        return kept_bytes(lambda: context.model.begin_update(batch), network_of(context.model))


def _losses(output: Output) -> Tensor:
    """(3,) the sums of the generator's, the discriminator's and the teacher's losses, without gradient."""
    guessed = output.generator.loss.detach()
    judged = torch.zeros_like(guessed) if output.discriminator is None else output.discriminator.loss.detach()
    compared = torch.zeros_like(guessed) if output.teacher_loss is None else output.teacher_loss.detach()
    return torch.stack([guessed, judged, compared])


def _masked(context: TrainContext, rows: Rows) -> Masked:
    settings = context.settings
    return mask_rows(rows, context.special, rate=settings.mask_rate, unmasked_fraction=settings.unmasked_fraction)


@isolated()
def evaluate_dev(context: RunContext, *, on_rows: Callable[[int], object] = lambda count: None) -> dict[str, float]:
    """Scores on the held-out rows: always the same rows, masks and samples, since the keys are those of epoch 0.

    on_rows: called with the rows scored since the last call.
    """
    return evaluate(_dev_outputs(context, on_rows), discriminator_weight=context.settings.discriminator_weight)


def _dev_outputs(context: RunContext, on_rows: Callable[[int], object]) -> Iterator[tuple[Output, Tensor]]:
    most = min(context.settings.dev_rows, context.dev.rows)
    size = context.micro_batch.rows or min(context.settings.batch_rows, DEV_MICRO_BATCH_SIZE)
    for first in range(0, most, size):
        rows = context.dev.batch(first, min(size, most - first)).to(context.device)
        yield context.model.predict(Batch(rows=rows, masked=_masked(context, rows))), rows.is_real
        on_rows(len(rows))
