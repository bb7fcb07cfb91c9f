"""Budgets and the learning rate that follows from them, worked by hand."""

import pytest

from spacy_electra.training.schedule import Budget, rate_factor


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(steps=100), 0.25),
        (Budget(rows=1000), 0.1),
        (Budget(seconds=600.0), 0.05),
        (Budget(steps=100, rows=1000, seconds=600.0), 0.25),
        (Budget(steps=10_000, rows=200, seconds=600.0), 0.5),
        (Budget(steps=10_000, rows=1000, seconds=40.0), 0.75),
        (Budget(steps=20), 1.0),
    ],
)
def test_progress_is_that_of_the_budget_which_ends_first(budget: Budget, expected: float) -> None:
    assert budget.progress(step=25, row=100, seconds=30.0) == pytest.approx(expected)


def test_a_run_without_any_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget of steps, rows or seconds"):
        Budget()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (30, 0.5 * 0.97),
        (60, 0.94),
        (500, 0.5),
        (999, 0.001),
    ],
)
def test_the_rate_of_a_thousand_steps_rises_for_sixty_and_falls_to_zero(step: int, expected: float) -> None:
    progress = Budget(steps=1000).progress(step=step, row=0, seconds=0.0)
    assert rate_factor(progress=progress, step=step, warmup=0.06) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(5_000, 0.5 * 0.995), (10_000, 0.99), (500_000, 0.5)])
def test_warm_up_takes_no_more_than_ten_thousand_steps(step: int, expected: float) -> None:
    progress = Budget(steps=1_000_000).progress(step=step, row=0, seconds=0.0)
    assert rate_factor(progress=progress, step=step, warmup=0.06) == pytest.approx(expected)


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 0.0), (18.0, 0.5 * 0.97), (300.0, 0.5), (540.0, 0.1)])
def test_the_rate_follows_the_clock_of_a_minutes_budget(seconds: float, expected: float) -> None:
    progress = Budget(seconds=600.0).progress(step=2, row=32, seconds=seconds)
    factor = rate_factor(progress=progress, step=2 if seconds else 0, warmup=0.06)
    assert factor == pytest.approx(expected)


def test_the_rate_follows_an_epochs_budget() -> None:
    budget = Budget(rows=3 * 200)
    assert rate_factor(progress=budget.progress(step=9, row=150, seconds=1.0), step=9, warmup=0.06) == 0.75


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert rate_factor(progress=0.0, step=0, warmup=0.0) == 1.0
