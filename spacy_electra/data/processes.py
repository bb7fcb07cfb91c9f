"""Pools of processes that end with their parent, and that report when a process was killed."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any


def spawned_pool(
    processes: int, *, start: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of spawned processes; forked ones would wait for threads of the tokenizers library for ever.

    start: called in each process before its first task.
    arguments: of `start`.
    """
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(start, arguments)
    )


@contextmanager
def told_if_killed() -> Iterator[None]:
    """Raise ValueError in place of a pool's own error after one of its processes was killed."""
    try:
        yield
    except BrokenProcessPool as error:
        raise ValueError(
            "a helping process was killed, as the system does where memory ends: ask for fewer (--processes), free "
            "some memory, or allow only smaller documents (--max-document-mb)."
        ) from error


def _begin(start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    parent = parent_process()
    if parent is not None:
        Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
    if start is not None:
        start(*arguments)


def _exit_after(sentinel: int) -> None:
    """End this process when its parent ends; a killed parent does not tell its children, which would wait for ever."""
    wait([sentinel])
    os._exit(1)
