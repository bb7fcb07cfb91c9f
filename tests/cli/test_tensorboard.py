"""The TensorBoard logger: what it is told stands in the event files, for pretraining and for `spacy train`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spacy.util import registry
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spacy_electra.training.tensorboard import create_tensorboard_logger

Invoke = Callable[..., Any]
Curves = dict[str, list[tuple[int, float]]]  # step and number of each point, by name


def read_curves(folder: Path) -> Curves:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, pytest.approx(event.value, rel=1e-5)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def facts(step: int, **scores: Any) -> dict[str, Any]:
    """What `spacy train` tells a logger."""
    return {
        "epoch": 1,
        "step": step,
        "score": 0.5,
        "other_scores": scores,
        "losses": {"ner": 2.0 * step},
        "checkpoints": [(0.5, step)],
        "seconds": 4,
        "words": 10 * step,
    }


def test_every_number_of_an_evaluation_is_a_point_of_its_curve(tmp_path: Path) -> None:
    log, finish = create_tensorboard_logger(str(tmp_path))(None, sys.stdout, sys.stderr)
    log(facts(2, ents_f=0.25, ents_per_type={"PER": {"p": 0.75}}, tag_acc=None))
    log(None)
    log(facts(4, ents_f=0.5))
    finish()
    assert read_curves(tmp_path) == {
        "epoch": [(2, 1), (4, 1)],
        "score": [(2, 0.5), (4, 0.5)],
        "words_per_second": [(2, 5), (4, 10)],
        "losses/ner": [(2, 4), (4, 8)],
        "scores/ents_f": [(2, 0.25), (4, 0.5)],
        "scores/ents_per_type/PER/p": [(2, 0.75)],
    }


def test_going_on_from_an_earlier_step_hides_what_was_written_for_later_ones(tmp_path: Path) -> None:
    for steps in ((2, 4, 6), (4,)):
        log, finish = create_tensorboard_logger(str(tmp_path))(None, sys.stdout, sys.stderr)
        for step in steps:
            log(facts(step))
        finish()
    assert [step for step, _ in read_curves(tmp_path)["score"]] == [2, 4]


def test_a_pretraining_run_writes_its_losses_scores_and_learning_rate(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    logger = f'{{"@loggers": "spacy-electra.TensorBoardLogger.v1", "log_dir": "{(tmp_path / "events").as_posix()}"}}'
    electra("pretrain", pretrain_cfg, "--output", tmp_path / "run", *tiny, "--training.logger", logger)
    curves = read_curves(tmp_path / "events")
    assert {"losses/generator", "losses/discriminator", "scores/auc", "learn_rate"} <= curves.keys()
    assert [step for step, _ in curves["scores/auc"]] == [2, 4]


def test_spacy_finds_the_logger_by_its_name() -> None:
    assert registry.loggers.get("spacy-electra.TensorBoardLogger.v1") is create_tensorboard_logger
