"""Time programs in turn, each in a process of its own, so that they share neither memory nor settings."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from spacy_electra.benchmark.measure import Sample, Step, Timed, facts_of, highest_memory, take, turns

Build = Callable[[], Step]  # a module's function, or a partial of one, since it is sent to the process
STEP, ACCOUNT = "step", "account"  # what a process is asked


def in_turn_apart(
    builds: Mapping[str, Build], *, rounds: int, device: torch.device, threads: int, warm_up: int = 2
) -> dict[str, Timed]:
    """Build every program in its own process, then time them as `measure.in_turn` does.

    The memory of a program is the peak of its process, from the start to the end of the last round.

    builds: functions that build the programs, by name; they are pickled.
    rounds: samples of each program.
    threads: torch threads in each process.
    warm_up: rounds before these, which do not count.
    Raises ChildProcessError, an OSError, with the error of a program that failed.
    """
    with ExitStack() as stack:
        ends = {name: stack.enter_context(_started(build, device, threads)) for name, build in builds.items()}
        for name, end in ends.items():
            _answer(end, name)  # it is built
        timed = turns({name: _asker(end, name) for name, end in ends.items()}, rounds=rounds, warm_up=warm_up)
        accounts = {name: _answer(end, name, question=ACCOUNT) for name, end in ends.items()}
        return {name: replace(one, memory=accounts[name][0], facts=accounts[name][1]) for name, one in timed.items()}


@contextmanager
def _started(build: Build, device: torch.device, threads: int) -> Iterator[Connection]:
    """Start a process that builds its program; yields the connection, over which it sends None once it is built."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, build, str(device), threads), daemon=True)
    process.start()
    theirs.close()
    try:
        yield mine
    finally:
        mine.close()
        process.join(timeout=10)
        process.kill()


def _serve(end: Connection, build: Build, device: str, threads: int) -> None:
    """Main function of a process: send a sample, or memory and facts, at each request, until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process has it as well, and ends this one
    torch.set_num_threads(threads)
    place = torch.device(device)
    try:
        step = build()
        end.send(None)
        while True:
            end.send(take(step, place) if end.recv() == STEP else (highest_memory(place), facts_of(step)))
    except EOFError:
        pass
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")


def _asker(end: Connection, name: str) -> Callable[[], Sample]:
    def ask() -> Sample:
        sample: Sample = _answer(end, name, question=STEP)
        return sample

    return ask


def _answer(end: Connection, name: str, *, question: str | None = None) -> Any:
    """Receive the next message of a process, after sending the request if there is one.

    name: of the program, for errors.
    question: `STEP` or `ACCOUNT`.
    Raises ChildProcessError if the program failed or its process ended.
    """
    try:
        if question is not None:
            end.send(question)
        answer = end.recv()
    except (EOFError, ConnectionError):
        raise ChildProcessError(
            f"the program '{name}' ended in the middle of a benchmark: was it short of memory?"
        ) from None
    if isinstance(answer, str):
        raise ChildProcessError(f"the program '{name}' failed: {answer}")
    return answer
