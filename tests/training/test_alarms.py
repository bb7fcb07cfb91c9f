"""What a collapsed run shows on the dev set is told once; a run that learns is left in peace."""

from collections.abc import Callable, Sequence

import pytest

from spacy_electra.data.store import Store
from spacy_electra.training.alarms import Alarms
from spacy_electra.training.loop import Evaluation, Facts, Task, pretrain
from spacy_electra.training.state import State


def watch(aucs: Sequence[float], losses: Sequence[float], *, first_progress: float = 0.3) -> list[list[str]]:
    """What is said after each evaluation, and its first words."""
    alarms, answer = Alarms(), []
    for number, (auc, loss) in enumerate(zip(aucs, losses, strict=True)):
        scores = {"auc": auc, "generator_loss": loss}
        evaluation = Evaluation(losses={}, scores=scores, gradient_norm=1.0, is_best=False)
        facts = Facts(State(), first_progress + 0.01 * number, epoch=0, learn_rate=0.0, evaluation=evaluation)
        answer.append([sentence.split()[1] for sentence in alarms(facts)])
    return answer


def test_a_blind_discriminator_is_told_of_once_after_three_evaluations() -> None:
    assert watch([0.50, 0.51, 0.50, 0.50, 0.50], [6, 5, 4, 3, 2]) == [[], [], ["discriminator"], [], []]


def test_a_good_evaluation_between_bad_ones_starts_the_count_again() -> None:
    assert watch([0.50, 0.51, 0.60, 0.50, 0.50], [6, 5, 4, 3, 2]) == [[]] * 5


def test_a_flat_generator_is_told_of_once() -> None:
    assert watch([0.6] * 5, [7.0, 6.95, 6.9, 6.9, 6.9]) == [[], [], ["generator"], [], []]


def test_the_plateau_at_the_beginning_is_no_alarm() -> None:
    assert watch([0.5] * 5, [7.0] * 5, first_progress=0.1) == [[]] * 5


def test_steps_without_an_evaluation_say_nothing() -> None:
    assert Alarms()(Facts(State(), 0.5, epoch=0, learn_rate=0.0)) == []


BODY = {"layers": 2, "width": 64, "feed_forward": 128, "heads": 2, "embedding": 64}


@pytest.mark.parametrize(("learn_rate", "expected"), [(0.01, ["the discriminator", "the generator"]), (0.003, [])])
def test_a_run_that_collapses_sets_off_both_alarms_and_one_that_learns_none(
    make_task: Callable[..., Task],
    cyclic_store: Callable[..., Store],
    learn_rate: float,
    expected: list[str],
) -> None:
    task = make_task(
        corpus=cyclic_store(documents=100, words=1500),
        model={"window": 32, "discriminator": BODY, "generator": None, "initialization": "local"},
        learn_rate=learn_rate,
        max_steps=400,
        batch_rows=16,
        eval_frequency=50,
        dev_rows=32,
        discriminator_weight=5.0,
    )
    alarms = Alarms()
    told = [sentence for facts in pretrain(task, State()) for sentence in alarms(facts)]
    assert sorted(" ".join(sentence.split()[:2]) for sentence in told) == expected
