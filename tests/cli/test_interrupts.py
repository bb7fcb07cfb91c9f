"""The first signal waits for the step under way, the second does not, and an echo of SIGTERM is no second one."""

import os
import signal
from collections.abc import Iterator

import pytest

from spacy_electra.cli import interrupts
from spacy_electra.cli.interrupts import Interrupts


class Terminated(Exception):
    pass


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """SIGTERM as an exception of its own, which can be expected."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_signal_is_remembered_and_the_second_stops() -> None:
    with Interrupts() as asked:
        send(signal.SIGINT)
        assert asked.asked
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_an_echo_of_sigterm_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Interrupts() as asked:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert asked.asked
        monkeypatch.setattr(interrupts, "ECHO", -1.0)  # as if it came later
        with pytest.raises(Terminated):
            send(signal.SIGTERM)


def test_one_of_many_processes_is_not_ended_by_what_follows_the_end_of_another() -> None:
    with Interrupts(is_one_of_many=True) as asked:
        send(signal.SIGTERM)
    send(signal.SIGTERM)
    assert asked.asked


def test_afterwards_signals_are_what_they_were() -> None:
    with Interrupts() as asked:
        send(signal.SIGTERM)
    assert asked.asked
    with pytest.raises(Terminated):
        send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
