"""spaCy's training loggers for pretraining runs, with a stand-in for `nlp`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, Any

from spacy_electra.training.loop import StepResult
from spacy_electra.training.tensorboard import LogStep

SetupLogger = Callable[[Any, IO[str], IO[str]], tuple[LogStep, Callable[[], None]]]


@dataclass(frozen=True)
class Half:
    """The attributes of a pipeline component that a logger reads."""

    name: str
    is_trainable: bool = True


def stand_in(config: Mapping[str, Any], halves: Sequence[str]) -> Any:
    """The part of an `nlp` that loggers read: component names, and the config with budget and score weights.

    config: the interpolated pretraining config. A budget of minutes has no number of steps; loggers then see 0.
    halves: the parts with a loss, "generator", "discriminator" and "teacher".
    """
    pipeline = [(name, Half(name)) for name in halves]
    return SimpleNamespace(pipeline=pipeline, pipe_names=list(halves), config=config, lang=None, meta={})


def silent(nlp: Any, stdout: IO[str], stderr: IO[str]) -> tuple[LogStep, Callable[[], None]]:
    """A logger for processes that print nothing."""
    return (lambda info: None), (lambda: None)


class RunLogger:
    """Passes a run's results to a spaCy logger in spaCy's form."""

    def __init__(
        self, setup: SetupLogger, config: Mapping[str, Any], *, halves: Sequence[str], pieces_per_row: float
    ) -> None:
        self.weights = {name: weight or 0.0 for name, weight in config["training"]["score_weights"].items()}
        self.pieces_per_row = pieces_per_row
        self.halves = halves
        self.checkpoints: list[tuple[float, int]] = []  # score and step of each evaluation
        self.log, self.finish = setup(stand_in(config, halves), sys.stdout, sys.stderr)

    def __call__(self, result: StepResult) -> None:
        """Log one step. The logger gets None for a step without an evaluation, as in `spacy train`.

        There is no `output_path`, which loggers would take for a pipeline. "learn_rate" is an addition.
        """
        if result.evaluation is None:
            self.log(None)
            return
        scores = result.evaluation.scores
        score = sum(weight * scores.get(name, 0.0) for name, weight in self.weights.items())
        self.checkpoints.append((score, result.state.step))
        self.log(
            {
                "epoch": result.epoch,
                "step": result.state.step,
                "score": score,
                "other_scores": scores,
                "losses": dict.fromkeys(self.halves, 0.0) | result.evaluation.losses,  # a teacher's work may be done
                "learn_rate": result.learn_rate,
                "checkpoints": self.checkpoints,
                "seconds": int(result.state.seconds),
                "words": int(result.state.row * self.pieces_per_row),
            }
        )
