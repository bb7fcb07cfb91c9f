"""Programs that take turns, each in a process of its own: none has the other's memory or settings."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import torch

from spacy_electra.benchmark.measure import Sample, Step, Timed, memory_of, take, turns

Build = Callable[[], Step]  # a module's function, or a partial of one, since it is sent to the process


def in_turn_apart(
    builds: Mapping[str, Build], *, rounds: int, device: torch.device, threads: int, warm_up: int = 2
) -> dict[str, Timed]:
    """Build every program in its own process, then let them take turns as `measure.in_turn` does.

    threads: of torch in each process. Raises ChildProcessError, an OSError, where a program fails, with what it said.
    """
    with ExitStack() as stack:
        ends = {name: stack.enter_context(_started(build, device, threads)) for name, build in builds.items()}
        memory = {name: _answer(end, name)[0] for name, end in ends.items()}
        return turns({name: _asker(end, name) for name, end in ends.items()}, memory, rounds=rounds, warm_up=warm_up)


@contextmanager
def _started(build: Build, device: torch.device, threads: int) -> Iterator[Connection]:
    """The connection to a process that builds its program, and says what memory a step takes."""
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
    """The other process: a step whenever it is asked for one, until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process has it as well, and ends this one
    torch.set_num_threads(threads)
    place = torch.device(device)
    try:
        step = build()
        end.send((memory_of(step, place),))
        while True:
            end.recv()
            end.send(take(step, place))
    except EOFError:
        pass
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")


def _asker(end: Connection, name: str) -> Callable[[], Sample]:
    def ask() -> Sample:
        units, busy, wall = _answer(end, name, question="step")
        return units, busy, wall

    return ask


def _answer(end: Connection, name: str, *, question: str | None = None) -> tuple[float, ...]:
    """What the process says next, after the question if there is one."""
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
    measured: tuple[float, ...] = answer
    return measured
