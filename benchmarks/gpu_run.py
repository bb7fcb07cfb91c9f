"""A run of `gpu.py train`: what a pretraining config describes, timed in halves."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from confection import Config

from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.store.reader import Store
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.pretrainer import build_electra
from spacy_electra.training.compiling import compile_training, is_wanted
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import StepResult
from spacy_electra.training.run import Run, save_state, train_on_disk
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training
from spacy_electra.training.state import State

INTERVAL = 20  # steps between looks at the clock, each of which waits for the device


def make_context(config: Path, store: Store, *, minutes: float, device: torch.device) -> RunContext:
    """The run that a pretraining config describes, over a store's documents; compiled where the config asks for it."""
    sections = Config().from_disk(
        config, overrides={"paths.tokenizer": str(store.directory / "tokenizer"), "training.max_minutes": minutes}
    )
    given = {name: value for name, value in sections["model"].items() if not name.startswith("@")}
    optimizer = adamw_v1(**{k: v for k, v in sections["training"]["optimizer"].items() if not k.startswith("@")})
    settings = Training(**{**sections["training"], "max_steps": 0, "optimizer": optimizer, "logger": None})
    model = build_electra(**given)
    model.shim.to_device({"cuda": "gpu"}.get(device.type, device.type), device.index or 0)
    if is_wanted(sections["system"]["compile"], device):
        compile_training(model.shim)
    documents, window = split_documents(store, seed=0), model.attrs["window"]
    return RunContext(
        model=model,
        optimizer=optimizer,
        train=Packing(store, documents.train, window=window, seed=0),
        dev=Packing(store, documents.dev, window=window, seed=0),
        special=store.manifest.special,
        budget=Budget(seconds=minutes * 60),
        settings=settings,
        device=device,
    )


@dataclass(frozen=True)
class Look:
    """The clock after a step, when the device has done all of it."""

    step: int
    row: int
    seconds: float


@dataclass
class Pace:
    """Rows and seconds of the intervals of steps without an evaluation, but for the first steps, which compile."""

    device: torch.device
    rows: int = 0
    seconds: float = 0.0
    looks: list[Look] = field(default_factory=list)  # at the beginning of all intervals so far

    def see(self, result: StepResult) -> None:
        """Take a step into account."""
        state = result.state
        is_over = result.evaluation is not None or not self.looks or state.step - self.looks[-1].step >= INTERVAL
        if not is_over:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = Look(state.step, state.row, time.monotonic())
        if result.evaluation is None and self.looks and self.looks[-1].step - self.looks[0].step >= INTERVAL:
            self.rows += now.row - self.looks[-1].row
            self.seconds += now.seconds - self.looks[-1].seconds
        self.looks.append(now)


def pretrain_until(share: float, run: Run, context: RunContext, state: State) -> dict[str, Any]:
    """Train until this share of the budget is spent, leave a checkpoint, and say how it went.

    Raises ValueError where as much is spent already.
    """
    if (spent := context.progress(state)) >= share:
        raise ValueError(
            f"{run.folder} holds a run that has spent {spent:.0%} of its minutes, expected less than {share:.0%}: "
            f"give a new folder, or more --minutes."
        )
    begun, pace = time.monotonic(), Pace(context.device)
    last: StepResult | None = None
    evaluated = None
    for result in train_on_disk(run, context, state):
        last, evaluated = result, result.evaluation or evaluated
        pace.see(result)
        if result.progress >= share:
            break
    assert last is not None
    save_state(run, context, last.state)
    window, rows = context.train.window, last.state.row - state.row
    return {
        "from_step": state.step,
        "to_step": last.state.step,
        "slots_a_second": round(pace.rows * window / pace.seconds) if pace.rows else None,
        "slots_a_second_with_compiling_and_evaluations": round(rows * window / (time.monotonic() - begun)),
        "is_compiled": context.model.shim.training_forward is not None,
        "micro_batch_size": context.micro_batch.rows,
        "scores": evaluated.scores if evaluated is not None else None,
    }
