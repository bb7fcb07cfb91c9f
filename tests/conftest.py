"""What all tests expect of the process that runs them, and what kills a process at any step."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spacy_electra.model.inference.backend import Machine, assume_machine

# A shell that runs the tests in the background has them ignore it, and programs that they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

KILLED, DONE = 77, 0
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is about to change a file or folder."""
    if event != "open":
        return event in CHANGES
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _is_below(folder: Path, name: str) -> bool:
    """Relative names are those of `shutil.rmtree`, which goes by handles of folders."""
    return name.startswith(str(folder)) or not os.path.isabs(name)


def _run_until(step: int, action: Callable[[Path], object], folder: Path) -> int:
    """Exit status of a fork that runs the action and ends, as if killed, before change number `step` below `folder`."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # which `tokenizers` wants to hear before a fork
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def end_at_step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if _is_change(event, arguments) and _is_below(folder, str(arguments[0])):
            seen += 1
            if seen > step:
                os._exit(KILLED)

    try:
        sys.addaudithook(end_at_step)
        action(folder)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(DONE)


@pytest.fixture
def killed_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run action(folder) again and again, killed before its first change of a file, before its second, and so on.

    prepare(folder) comes before each, check(folder) after it. every: 2 leaves out every second step, and so on. Gives
    the step at which the action came to its end.
    """
    if not hasattr(os, "fork"):
        pytest.skip("the action runs in forks, which have all imports")
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the system does not end with the process

    def run(
        action: Callable[[Path], object],
        *,
        check: Callable[[Path], object],
        prepare: Callable[[Path], object] = lambda folder: None,
        every: int = 1,
    ) -> int:
        for step in range(0, 10_000, every):
            folder = tmp_path / f"killed-{step}"
            folder.mkdir()
            prepare(folder)
            status = _run_until(step, action, folder)
            assert status in (KILLED, DONE)
            check(folder)
            shutil.rmtree(folder)
            if status == DONE:
                return step
        raise AssertionError("the action does not end")

    return run


@pytest.fixture
def assume() -> Iterator[Callable[[Machine], None]]:
    """Let backends be chosen as on another machine, until the test ends."""
    with ExitStack() as assumptions:
        yield lambda machine: assumptions.enter_context(assume_machine(machine))
