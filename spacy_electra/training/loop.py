"""The pretraining loop: yields a result after each step. The caller saves, prints and stops."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.electra import Output
from spacy_electra.model.optim.adamw import kept_rate
from spacy_electra.model.pretrainer import Batch
from spacy_electra.training.compiling import forget_passes
from spacy_electra.training.context import RunContext
from spacy_electra.training.memory import (
    asked,
    within_memory,
)
from spacy_electra.training.metrics import evaluate
from spacy_electra.training.micro_batches import settle_micro_batch
from spacy_electra.training.prefetch import feeding
from spacy_electra.training.schedule import rate_factor
from spacy_electra.training.state import State, Sums, check_finite, check_skipped
from spacy_electra.training.step import masked_rows, train_step

DEV_MICRO_BATCH_SIZE = 32  # where no run says what fits
LOOK_AT_SKIPS = 16  # steps; looking waits for the device
BEST_COUNTS_FROM = 0.5  # of the budget: earlier models are not worth keeping
# Seconds that a budget of minutes counts. Who wants those of the processor sets `time.process_time` before a run.
budget_clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, beside the dev scores."""

    losses: dict[str, float]  # mean training losses since the last evaluation, by half
    scores: dict[str, float]  # dev scores
    gradient_norm: float  # of the step just taken, before the clip
    is_best: bool  # the lowest dev loss in the last half of the budget
    skipped: int = 0  # steps so far whose gradients were not finite


@dataclass(frozen=True)
class StepResult:
    """Results of a step."""

    state: State
    progress: float  # share of the budget spent, in [0, 1]
    epoch: int
    learn_rate: float  # of the step just taken
    evaluation: Evaluation | None = None  # when one took place


def pretrain(context: RunContext, state: State) -> Iterator[StepResult]:
    """Train from `state` until the budget is spent, with an evaluation every `eval_frequency` steps and at the end.

    A step with gradients that are not finite is skipped. Raises Diverged, a ValueError, after more than
    `settings.max_skipped_steps` of them in a row, and if a loss is not finite.
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
    shim = context.model.shim
    scores = within_memory(context.micro_batch, lambda: evaluate_dev(context), forget=lambda: forget_passes(shim))
    check_finite({**losses, "the dev set": scores["loss"]}, state)
    counts = result.progress >= BEST_COUNTS_FROM
    is_best = counts and (state.best_loss is None or scores["loss"] < state.best_loss)
    state = state.moved(
        sums=Sums(),
        seconds=context.ranks.spread_number(budget_clock() - begun),
        best_loss=scores["loss"] if is_best else state.best_loss,
    )
    norm = shim.steps.gradient_norm
    assert norm is not None  # a step was taken
    evaluation = Evaluation(losses=losses, scores=scores, gradient_norm=float(norm), is_best=is_best, skipped=skipped)
    return replace(result, state=state, progress=context.progress(state), evaluation=evaluation)


def skipped_steps(context: RunContext) -> tuple[int, int]:
    """Numbers of skipped steps: since the last step that was taken, and in total. Waits for the device."""
    in_a_row, in_all = context.model.shim.steps.adamw_for(context.optimizer).skipped.tolist()
    return int(in_a_row), int(in_all)


@isolated()
def evaluate_dev(context: RunContext, *, on_rows: Callable[[int], object] = lambda count: None) -> dict[str, float]:
    """Scores on the held-out rows: always with the same rows, masks and samples, since the keys are those of epoch 0.

    on_rows: called with the number of rows scored since the last call.
    """
    return evaluate(_dev_outputs(context, on_rows), discriminator_weight=context.settings.discriminator_weight)


def _dev_outputs(context: RunContext, on_rows: Callable[[int], object]) -> Iterator[tuple[Output, Tensor]]:
    most = min(context.settings.dev_rows, context.dev.rows)
    size = context.micro_batch.rows or min(context.settings.batch_rows, DEV_MICRO_BATCH_SIZE)
    for first in range(0, most, size):
        rows = context.dev.batch(first, min(size, most - first)).to(context.device)
        yield context.model.predict(Batch(rows=rows, masked=masked_rows(context, rows))), rows.is_real
        on_rows(len(rows))
