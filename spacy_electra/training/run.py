"""A run on disk: what is written when, and how it goes on where it was.

    config.cfg        as given             metrics.jsonl  facts of each evaluation, the same for the same seed
    resolved.cfg      what `auto` chose    timings.jsonl  clocks of each evaluation
    tokenizer/        the vocabulary       checkpoints/, latest
    model-best/, model-last/               each with discriminator/ and generator/ as Hugging Face directories
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacy_electra.data.wordpiece import WordPiece
from spacy_electra.model.build import network_of
from spacy_electra.model.electra import Electra
from spacy_electra.model.huggingface import save_discriminator, save_generator
from spacy_electra.training.card import write_card
from spacy_electra.training.checkpoint import Checkpoint, State, read_checkpoint, write_checkpoint
from spacy_electra.training.loop import Facts, Pretrainer, Task, pretrain

logger = logging.getLogger("spacy_electra")


@dataclass(frozen=True)
class Run:
    """A folder, and what is needed to write into it."""

    folder: Path
    tokenizer: WordPiece
    description: dict[str, Any]  # what the model card states: data, budget, command


def open_folder(folder: Path, *, resume: bool) -> None:
    """Make the folder of a run. Raises ValueError where it holds a run that must not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} is a file: give a folder to --output.")
    if not resume and (folder / "latest").exists():
        raise ValueError(
            f"the folder {folder} holds a run: add --resume to go on with it, or give another folder to --output."
        )
    folder.mkdir(parents=True, exist_ok=True)


def restore(model: Pretrainer, task: Task, folder: Path) -> State:
    """Put the newest checkpoint's tensors into the model and its optimizer; the state to go on from."""
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        return State()
    network_of(model).load_state_dict(checkpoint.weights)
    model.shims[0].adamw_for(task.optimizer).load_named_state(checkpoint.optimizer)
    cut_records(folder, checkpoint.state.step)
    logger.info("going on with %s at step %d", folder, checkpoint.state.step)
    return checkpoint.state


def cut_records(folder: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl and timings.jsonl that a crash wrote after the checkpoint at `step`."""
    for name in ("metrics.jsonl", "timings.jsonl"):
        path = folder / name
        if path.is_file():
            lines = [line for line in path.read_text(encoding="utf8").splitlines() if _step_of(line) <= step]
            path.write_text("".join(line + "\n" for line in lines), encoding="utf8")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line, cut off by the crash
        return float("inf")


def train_on_disk(run: Run, task: Task, state: State) -> Iterator[Facts]:
    """Pretrain from `state` and write checkpoints, records and models as it goes; yields the loop's facts."""
    saved_at = state.seconds
    facts = None
    for facts in pretrain(task, state):
        if facts.scores is not None:
            _record(run.folder, facts)
            if facts.is_best:
                save_model(run, task.model, "model-best", facts)
        due = facts.state.seconds - saved_at >= task.settings.checkpoint_minutes * 60
        if due or facts.progress >= 1.0:
            save_state(run, task, facts.state)
            saved_at = facts.state.seconds
        yield facts
    if facts is not None:
        save_model(run, task.model, "model-last", facts)


def save_state(run: Run, task: Task, state: State) -> None:
    """Write a checkpoint of the task as it stands after a step."""
    checkpoint = Checkpoint(
        weights=network_of(task.model).state_dict(),
        optimizer=task.model.shims[0].adamw_for(task.optimizer).named_state(),
        state=state,
    )
    write_checkpoint(run.folder, checkpoint, keep=task.settings.keep_checkpoints)


def _record(folder: Path, facts: Facts) -> None:
    state = facts.state
    metrics = {
        "step": state.step,
        "row": state.row,
        "epoch": facts.epoch,
        "losses": facts.losses,
        "scores": facts.scores,
    }
    timings = {"step": state.step, "seconds": state.seconds, "learn_rate": facts.learn_rate}
    for name, record in (("metrics.jsonl", metrics), ("timings.jsonl", timings)):
        with (folder / name).open("a", encoding="utf8") as file:
            file.write(json.dumps(record) + "\n")


def save_model(run: Run, model: Pretrainer, name: str, facts: Facts) -> None:
    """Write `discriminator/`, `generator/` and the card into the folder `name`, whole or not at all."""
    network = network_of(model)
    partial, whole = run.folder / f".partial-{name}", run.folder / name
    shutil.rmtree(partial, ignore_errors=True)
    save_discriminator(network, run.tokenizer, partial / "discriminator")
    if isinstance(network, Electra):
        save_generator(network, run.tokenizer, partial / "generator")
    write_card(partial / "README.md", description=run.description, facts=facts)
    shutil.rmtree(whole, ignore_errors=True)
    partial.rename(whole)
