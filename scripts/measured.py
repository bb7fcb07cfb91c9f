"""Run a program in a process of its own: one thread, its output in a log, its processor time counted.

The time is that of the process and of those that it has waited for, user and system. A program that is interrupted
ends what it has started by `end_all`.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

LOOK_SECONDS = 0.2  # between two looks at a process
LOG_LINES = 12  # shown of a program that failed
# One core for each process: more threads than cores make every one of them slower.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_running: set[subprocess.Popen[bytes]] = set()
_is_ending = threading.Event()


@dataclass(frozen=True)
class Ended:
    """How a process has ended."""

    status: int
    cpu_seconds: float


def run_measured(
    command: list[str],
    log: Path,
    *,
    is_apart: bool = False,
    on_start: Callable[[psutil.Process], object] = lambda process: None,
    on_look: Callable[[float], object] = lambda seconds: None,
) -> Ended:
    """Run a command until it ends; its output replaces the log's content.

    is_apart: in a session of its own, which Ctrl-C does not reach, so that `end_all` alone asks it to end.
    on_start: called with the process. on_look: called every `LOOK_SECONDS` with its processor time so far.
    Raises KeyboardInterrupt where `end_all` has ended it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | ONE_THREAD, start_new_session=is_apart
        )
    _running.add(process)
    used = 0.0
    try:
        if _is_ending.is_set():
            process.terminate()
        watched = psutil.Process(process.pid)
        on_start(watched)
        while (ended := _look(process)) is None:
            used = cpu_seconds(watched, used)
            on_look(used)
            time.sleep(LOOK_SECONDS)
    except BaseException:
        process.terminate()
        raise
    finally:
        _running.discard(process)
    if _is_ending.is_set():
        raise KeyboardInterrupt
    return ended if ended.cpu_seconds else Ended(ended.status, used)


def _look(process: subprocess.Popen[bytes]) -> Ended | None:
    """How the process has ended, with its exact processor time where the system tells; None while it runs."""
    if not hasattr(os, "wait4"):
        status = process.poll()
        return None if status is None else Ended(status, 0.0)
    number, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not number:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(process.returncode, usage.ru_utime + usage.ru_stime)


def cpu_seconds(process: psutil.Process, before: float) -> float:
    """What a process has used so far, and those that it has waited for; `before` where it has just ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return before
    of_children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    used: float = times.user + times.system + of_children
    return max(before, used)


def end_of(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf8", errors="replace").splitlines()[-LOG_LINES:])


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP interrupt this program as Ctrl-C does; who is interrupted calls `end_all`.

    To be entered in the main thread. A SIGHUP that is ignored, as nohup has it, stays so.
    """
    _is_ending.clear()
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def is_ending() -> bool:
    """Whether all that was started is to end."""
    return _is_ending.is_set()


def end_all() -> None:
    """Ask every process that runs to end, and let none begin; programs of this project save what they have."""
    _is_ending.set()
    for process in list(_running):
        process.terminate()
