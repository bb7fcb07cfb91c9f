"""What surrounds a run: signals at the right moment, threads as before, and the line that says how far it is."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from spacy_electra.cli.interrupts import Interrupts
from spacy_electra.cli.progress import RunProgress, clock_time
from spacy_electra.cli.resuming import set_threads
from spacy_electra.training.loop import Evaluation, StepResult
from spacy_electra.training.state import State


def test_the_first_interrupt_is_remembered_and_the_second_is_not_waited_for() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_signals_are_as_before_after_a_run() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.fixture
def threads() -> Iterator[int]:
    count = torch.get_num_threads()
    yield count
    torch.set_num_threads(count)


def test_a_resumed_run_computes_with_as_many_threads_as_before(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    set_threads(1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("environment", "count"), [({"OMP_NUM_THREADS": "1"}, 2), ({}, 100_000)])
def test_the_environment_and_the_number_of_cores_go_first(
    threads: int, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(1)
    set_threads(count)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("seconds", "expected"), [(5.4, "0:05"), (65, "1:05"), (3723, "1:02:03")])
def test_time_left_is_told_as_a_clock(seconds: float, expected: str) -> None:
    assert clock_time(seconds) == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(step: int, *, seconds: float, progress: float, evaluation: Evaluation | None = None) -> StepResult:
    return StepResult(State(step=step, row=4 * step, seconds=seconds), progress, 0, 1e-3, evaluation)


def test_the_line_tells_step_speed_losses_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    evaluation = Evaluation({"generator": 5.25}, {}, 1.0, is_best=False)
    with RunProgress(pieces_per_row=100.0) as progress:
        progress(result(10, seconds=1.0, progress=0.1))
        progress(result(30, seconds=3.0, progress=0.3, evaluation=evaluation))
        progress.bar.refresh()
        told = sys.stderr.getvalue()  # type: ignore[attr-defined]
    # 80 rows of 100 pieces in 2 s; a fifth of the budget in 2 s leaves 7 s for the other 70 %
    assert "step 30, 4,000 pieces/s, generator 5.250, 0:07 left" in told
    assert " 30%|" in told


def test_where_there_is_no_terminal_there_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(pieces_per_row=100.0) as progress:
        progress(result(10, seconds=1.0, progress=0.1))
        progress(result(30, seconds=3.0, progress=0.3))
    assert capsys.readouterr() == ("", "")
