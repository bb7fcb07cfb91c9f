"""What a collapsed run shows on the dev set is told once; a run that learns is left in peace."""

from collections.abc import Callable, Sequence

import pytest

from spacy_electra.data.store.reader import Store
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import Evaluation, StepResult, pretrain
from spacy_electra.training.monitor import Alarms
from spacy_electra.training.state import State


def watch(aucs: Sequence[float], losses: Sequence[float], *, first_progress: float = 0.3) -> list[list[str]]:
    """What is said after each evaluation, and its first words."""
    alarms, answer = Alarms(), []
    for number, (auc, loss) in enumerate(zip(aucs, losses, strict=True)):
        scores = {"auc": auc, "generator_loss": loss}
        evaluation = Evaluation(losses={}, scores=scores, gradient_norm=1.0, is_best=False)
        result = StepResult(State(), first_progress + 0.01 * number, epoch=0, learn_rate=0.0, evaluation=evaluation)
        answer.append([sentence.split()[1] for sentence in alarms(result)])
    return answer


def test_a_blind_discriminator_is_told_of_once_after_three_evaluations() -> None:
    assert watch([0.50, 0.51, 0.50, 0.50, 0.50], [6, 5, 4, 3, 2]) == [[], [], ["discriminator"], [], []]


def test_a_good_evaluation_between_bad_ones_starts_the_count_again() -> None:
    assert watch([0.50, 0.51, 0.60, 0.50, 0.50], [6, 5, 4, 3, 2]) == [[]] * 5


def test_a_flat_generator_is_told_of_once() -> None:
    assert watch([0.6] * 5, [7.0, 6.95, 6.9, 6.9, 6.9]) == [[], [], ["generator"], [], []]


def test_a_run_that_goes_on_is_measured_by_its_own_first_loss() -> None:
    def said(first: float | None) -> int:
        alarms, count = Alarms(first=first), 0
        for number, loss in enumerate([3.30, 3.28, 3.26, 3.25]):
            scores = {"auc": 0.6, "generator_loss": loss}
            evaluation = Evaluation(losses={}, scores=scores, gradient_norm=1.0, is_best=False)
            result = StepResult(State(), 0.5 + 0.01 * number, epoch=0, learn_rate=0.0, evaluation=evaluation)
            count += len(alarms(result))
        return count

    assert [said(7.0), said(float("inf")), said(None)] == [0, 0, 1]


def test_the_plateau_at_the_beginning_is_no_alarm() -> None:
    assert watch([0.5] * 5, [7.0] * 5, first_progress=0.1) == [[]] * 5


def test_steps_without_an_evaluation_say_nothing() -> None:
    assert Alarms()(StepResult(State(), 0.5, epoch=0, learn_rate=0.0)) == []


BODY = {"layers": 2, "width": 64, "feed_forward": 128, "heads": 2}
WEAK = {"layers": 1, "width": 4, "feed_forward": 4, "heads": 1}  # its samples are easy to tell


@pytest.mark.parametrize(
    ("generator", "learn_rate", "expected"),
    [(None, 1.0, {"discriminator", "generator"}), (BODY, 0.003, set()), (WEAK, 0.001, {"generator"})],
    ids=["a rate too high", "a run that learns", "a weak generator"],
)
def test_only_the_half_that_learns_nothing_sets_off_its_alarm(
    make_context: Callable[..., RunContext],
    cyclic_store: Callable[..., Store],
    generator: dict[str, int] | None,
    learn_rate: float,
    expected: set[str],
) -> None:
    context = make_context(
        corpus=cyclic_store(documents=100, words=1500),
        model={"window": 32, "discriminator": BODY | {"embedding": 64}, "generator": generator},
        learn_rate=learn_rate,
        max_steps=200,
        batch_rows=16,
        eval_frequency=10,
        dev_rows=32,
        warmup=0.3,
    )
    alarms = Alarms()
    told = [sentence.split()[1] for result in pretrain(context, State()) for sentence in alarms(result)]
    assert set(told) == expected
    assert len(told) == len(expected)
