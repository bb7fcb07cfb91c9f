"""Messages of `pretrain` at the beginning and end of a run, and the description of the run in the model card."""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wasabi import msg

import spacy_electra
from spacy_electra.cli.corpora import shares_in_words
from spacy_electra.cli.resuming import RUN_CONFIG
from spacy_electra.cli.run_setup import Data
from spacy_electra.cli.settings import PretrainingConfig
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import Evaluation
from spacy_electra.training.run import LAST
from spacy_electra.training.state import State


@dataclass(frozen=True)
class RunResult:
    """State and last scores of a run on disk that ended."""

    state: State
    evaluation: Evaluation | None  # the last one; None where no evaluation took place
    was_interrupted: bool


def card_rows(settings: PretrainingConfig, data: Data, context: RunContext) -> dict[str, Any]:
    """The rows of the model card that describe a run, by name."""
    taught = {} if settings.teacher is None else {"teacher": settings.teacher.name}
    mixture = {"rows come from": shares_in_words(settings.corpora)} if settings.corpora else {}
    return {
        "version": spacy_electra.__version__,
        "objective": settings.config["model"].get("objective", settings.config["model"]["@architectures"]),
        "corpus": f"{data.train.documents:,} documents, {data.train.pieces:,} pieces",
        **mixture,
        "vocabulary": f"{data.tokenizer.size:,} pieces",
        "window": context.train.window,
        "parameters": f"{parameters_of(context):,}, generator included",
        "rows a step": settings.training.batch_rows,
        "peak learning rate": float(context.optimizer.learn_rate),
        "seed": settings.system.seed,
        "continued from": settings.paths.init or "nothing",
        **taught,
    }


def parameters_of(context: RunContext) -> int:
    """Number of parameters of the network, generator included."""
    return sum(parameter.numel() for parameter in context.model.network.parameters())


def announce(settings: PretrainingConfig, context: RunContext, state: State, output: Path) -> None:
    """Print what is about to run."""
    if state.step:
        msg.info(f"Resuming at step {state.step:,}, {state.seconds / 60:.1f} minutes into the run")
    training = settings.training
    budgets = {"steps": training.max_steps, "epochs": training.max_epochs, "minutes": training.max_minutes}
    budget = " or ".join(f"{most:,.12g} {unit[: -1 if most == 1 else None]}" for unit, most in budgets.items() if most)
    msg.info(
        f"Pretraining {parameters_of(context) / 1e6:.1f} M parameters on {context.train.rows:,} rows of "
        f"{context.train.window} pieces, {context.dev.rows:,} held out; {budget} on {context.device}, into {output}"
    )
    if settings.corpora:
        msg.info(f"Rows come from {shares_in_words(settings.corpora)}; epochs are those of train")


def conclude(ended: RunResult, output: Path) -> None:
    """Print the result of a run, shares in percent as in the table above it."""
    scores = ended.evaluation.scores if ended.evaluation else {}
    told = ", ".join(f"{name} {in_words(name, value)}" for name, value in scores.items())
    held_out = f"; on held-out rows {told}" if told else ""
    msg.good(f"{ended.state.step:,} steps in {ended.state.seconds / 60:.1f} minutes{held_out}")
    print(f"The pipeline's `name` is {output / LAST / 'discriminator'}")


def in_words(score: str, value: float) -> str:
    """A score as a loss, or as a share in percent."""
    return f"{value:.3f}" if score.endswith("loss") else f"{100 * value:.1f} %"


def resume_command(output: Path, *, gpu_id: int, code: Path | None, processes: int) -> str:
    """The command that resumes the run in `output`, whose own config contains the overrides.

    processes: number of ranks; more than one are started by torchrun.
    """
    command = ["spacy", "electra", "pretrain", str(output / RUN_CONFIG), "--output", str(output), "--resume"]
    if gpu_id >= 0:
        command += ["--gpu-id", str(gpu_id)]
    if code is not None:
        command += ["--code", str(code)]
    joined = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
    return f"{'python' if processes == 1 else 'torchrun [its options as before]'} -m {joined}"
