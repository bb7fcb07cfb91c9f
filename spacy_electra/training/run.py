"""A run on disk: its files, when they are written, and resuming.

config.cfg        as given             metrics.jsonl  result of each evaluation, the same for the same seed
resolved.cfg      what `auto` chose    timings.jsonl  clocks of each evaluation
tokenizer/        the vocabulary       checkpoints/, latest
model-best/, model-last/               each with discriminator/ and generator/ as Hugging Face directories, the step
                                       and the scores in summary.json, and a card
"""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spacy_electra.data.atomic import partial_name, replace_file
from spacy_electra.data.atomic_folder import remove_partial, replaced_folder, settle
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import write_discriminator, write_generator
from spacy_electra.model.network.electra import Electra
from spacy_electra.training.checkpoint import (
    CHECKPOINTS,
    LATEST,
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import Evaluation, StepResult, evaluate_dev, pretrain
from spacy_electra.training.model_card import write_card
from spacy_electra.training.state import Diverged, State, check_finite

logger = logging.getLogger("spacy_electra")

LOCK = ".lock"
MIN_LR_SCALE = 1 / 8  # of the learning rate, for a run that diverges again and again
METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"
BEST, LAST = "model-best", "model-last"
SUMMARY = "summary.json"  # in both, of the run when it was saved


@dataclass
class LastCheckpoint:
    """The state of the newest checkpoint that this process wrote or read."""

    state: State | None = None


@dataclass(frozen=True)
class Run:
    """The folder of a run, and what is needed to write into it."""

    folder: Path
    tokenizer: WordPiece
    description: dict[str, Any]  # what the model card states: data, shape, recipe
    saved: LastCheckpoint = field(default_factory=LastCheckpoint)


def check_run_folder(folder: Path, *, resume: bool) -> None:
    """Raise ValueError if `folder` cannot hold a run, or holds one and `resume` is not given."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} is a file: give a folder to --output.")
    if not resume and (has_checkpoint(folder) or any((folder / name).exists() for name in (METRICS, BEST, LAST))):
        raise ValueError(
            f"the folder {folder} holds a run: add --resume to resume it, or give another folder to --output."
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in `folder`, which is created if missing.

    Partial files of killed processes are removed, and decided replacements are finished. The lock is released when the
    process ends. Raises ValueError if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is writing into {folder}: wait for it or stop it, or give another folder to --output."
        ) from None
    try:
        _tidy(folder)
        yield
    finally:
        lock.release()


def _tidy(folder: Path) -> None:
    for name in (METRICS, TIMINGS, LATEST):
        partial_name(folder / name).unlink(missing_ok=True)
    for place in (folder, folder / CHECKPOINTS):
        remove_partial(place)
    for name in (BEST, LAST):
        settle(folder / name)


def restore(context: RunContext, folder: Path) -> State:
    """Load the newest checkpoint into every rank's model and optimizer; returns the state to resume from.

    Records that are newer than the checkpoint are dropped: their steps are taken again. Raises ValueError if the
    checkpoint is damaged or belongs to a model of another shape.
    """
    state = _read_back(context, folder) if context.ranks.is_first else State()
    if context.ranks.size > 1:
        adamw = context.model.shim.steps.adamw_for(context.optimizer)
        context.ranks.spread([*context.model.network.state_dict().values(), *adamw.named_state().values()])
    return context.ranks.spread_state(state)


def _read_back(context: RunContext, folder: Path) -> State:
    checkpoint = read_checkpoint(folder)
    state = State() if checkpoint is None else checkpoint.state
    if checkpoint is not None:
        try:
            context.model.network.load_state_dict(checkpoint.weights)
        except RuntimeError as error:
            raise ValueError(f"the checkpoint in {folder} belongs to a model of another shape: {error}") from None
        context.model.shim.steps.adamw_for(context.optimizer).load_named_state(checkpoint.optimizer)
        logger.info("resuming %s at step %d", folder, state.step)
    _cut_records(folder, state.step)
    return state


def _cut_records(folder: Path, step: int) -> None:
    for name in (METRICS, TIMINGS):
        path = folder / name
        if path.is_file():
            lines = [line for line in path.read_text(encoding="utf8").splitlines() if _step_of(line) <= step]
            replace_file(path, "".join(line + "\n" for line in lines).encode())


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line, cut off by a crash
        return float("inf")


def train_on_disk(run: Run, context: RunContext, state: State) -> Iterator[StepResult]:
    """Pretrain from `state`, write checkpoints, records and models, and yield the loop's results.

    If training diverges, it continues from the last checkpoint with half the learning rate, if the settings say so.
    Raises Diverged, a ValueError, if they do not, if there is no checkpoint yet, and after several attempts.
    """
    try:
        yield from _train(run, context, state)
    except Diverged as error:
        state = _go_back(run, context, error)
    else:
        return
    yield from train_on_disk(run, context, state)


def _go_back(run: Run, context: RunContext, error: Diverged) -> State:
    """The last checkpoint's state with half the rate that led to `error`."""
    share = error.lr_scale / 2
    if context.settings.on_divergence == "stop" or share < MIN_LR_SCALE:
        raise error
    if not context.ranks.spread_number(float(has_checkpoint(run.folder))):
        raise error  # and what was recorded stays
    state = restore(context, run.folder)
    logger.warning("%s Going back to step %d with the share %g of the learning rate.", error, state.step, share)
    return state.moved(lr_scale=share)


def _train(run: Run, context: RunContext, state: State) -> Iterator[StepResult]:
    """One attempt of a run, as `train_on_disk` describes it.

    The last checkpoint comes after model-last: where it is there, nothing is left to do. Only the first rank writes.
    """
    saved_at = state.seconds
    for result in pretrain(context, state):
        is_last = result.progress >= 1.0
        if result.evaluation is not None and context.ranks.is_first:
            _record(run.folder, result, result.evaluation)
            if result.evaluation.is_best:
                save_model(run, context, BEST, result.state, result.evaluation.scores)
            if is_last:
                save_model(run, context, LAST, result.state, result.evaluation.scores)
        if is_last or result.state.seconds - saved_at >= context.settings.checkpoint_minutes * 60:
            save_state(run, context, result.state)
            saved_at = result.state.seconds
        yield result


def first_loss(folder: Path) -> float | None:
    """The generator's dev loss at the first evaluation of a run; None if there was none yet."""
    path = folder / METRICS
    line = next(iter(path.read_text(encoding="utf8").splitlines()), None) if path.is_file() else None
    return None if line is None else float(json.loads(line)["scores"]["generator_loss"])


def finish(run: Run, context: RunContext, state: State) -> None:
    """Ensure that a run whose budget is spent has its model-last, and not that of a smaller budget."""
    if context.ranks.is_first and _step_of_model(run.folder / LAST) != state.step:
        save_model(run, context, LAST, state, evaluate_dev(context))


def _step_of_model(folder: Path) -> int | None:
    """After how many steps a model was saved; None where there is none."""
    try:
        return int(json.loads((folder / SUMMARY).read_text(encoding="utf8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_state(run: Run, context: RunContext, state: State) -> None:
    """Write a checkpoint of the context after a step. Raises ValueError if training has diverged.

    All ranks call it, and the first one writes. From then on all use the smallest micro-batch of any rank, as a resumed
    run would.
    """
    if run.saved.state is state:
        return
    run.saved.state = state
    check_finite(state.sums.means(), state)
    lost = [name for name, tensor in context.model.network.state_dict().items() if not bool(tensor.isfinite().all())]
    if lost:
        raise Diverged(f"{lost[0]} holds numbers that are not finite", step=state.step, lr_scale=state.lr_scale)
    context.micro_batch.rows = context.ranks.least(context.micro_batch.rows)
    if not context.ranks.is_first:
        return
    checkpoint = Checkpoint(
        weights=context.model.network.state_dict(),
        optimizer=context.model.shim.steps.adamw_for(context.optimizer).named_state(),
        state=state.moved(micro_batch_size=context.micro_batch.rows),
    )
    write_checkpoint(run.folder, checkpoint, keep=context.settings.keep_checkpoints)


def _record(folder: Path, result: StepResult, evaluation: Evaluation) -> None:
    state = result.state
    metrics = {
        "step": state.step,
        "row": state.row,
        "epoch": result.epoch,
        "learn_rate": result.learn_rate,
        "gradient_norm": evaluation.gradient_norm if math.isfinite(evaluation.gradient_norm) else None,
        "skipped_steps": evaluation.skipped,
        "losses": evaluation.losses,
        "scores": evaluation.scores,
    }
    timings = {"step": state.step, "seconds": state.seconds, "progress": result.progress}
    for name, record in ((METRICS, metrics), (TIMINGS, timings)):
        with (folder / name).open("a", encoding="utf8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")


def save_model(run: Run, context: RunContext, name: str, state: State, scores: dict[str, float]) -> None:
    """Write `discriminator/`, `generator/`, summary and card into the folder `name`, atomically."""
    network = context.model.network
    summary = {"step": state.step, "row": state.row, "scores": scores}
    with replaced_folder(run.folder / name, last=SUMMARY) as folder:
        write_discriminator(network, run.tokenizer, folder / "discriminator")
        if isinstance(network, Electra):
            write_generator(network, run.tokenizer, folder / "generator")
        (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf8")
        write_card(folder / "README.md", description=run.description, state=state, scores=scores)
