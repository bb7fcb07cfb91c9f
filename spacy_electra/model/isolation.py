"""Isolate passes through torch modules from global settings and forks in the same process.

Other code may have set autocast, inference mode, or reduced float32 precision. A pass disables these while it runs, so
that its results do not depend on them. A fork waits for the passes of other threads: the child would have none of
these threads, but all locks that they hold in torch.

A default dtype or device affects all threads and is not changed. Every tensor made in this package names both.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from functools import partial

import torch

PARALLELISM = "TOKENIZERS_PARALLELISM"  # without it, each fork makes tokenizers print four lines
DEVICES = tuple(name for name in ("cpu", "cuda", "mps") if torch.amp.is_autocast_available(name))
MULTIPLIERS = ("mkldnn", "cuda")  # of float32, as torch knows them from 2.9 on
EXACT = ("ieee", "none")  # with all bits
_how = getattr(torch._C, "_get_fp32_precision_getter", None)  # its public names take ten times as long
_multiply_so = getattr(torch._C, "_set_fp32_precision_setter", None)


class _Passes:
    """The passes that run, of all threads, and the forks that wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._own = threading.local()  # `depth`: passes of this thread that are inside each other
        self._running = 0  # threads in a pass
        self._forks = 0  # threads about to fork, whose own pass counts as none
        self._is_told = False  # whether the variable above is set for a fork alone
        self._undo: list[Callable[[], object]] = []  # gives float32 products back what they were before these passes

    @property
    def _depth(self) -> int:
        depth: int = getattr(self._own, "depth", 0)
        return depth

    def begin(self) -> None:
        self._own.depth = self._depth + 1
        if self._depth > 1:
            return
        with self._changed:
            while self._forks:
                self._changed.wait()
            if not self._running:
                self._undo = _use_all_bits()
            self._running += 1

    def end(self) -> None:
        self._own.depth -= 1
        if self._depth:
            return
        with self._changed:
            self._running -= 1
            if not self._running:
                while self._undo:
                    self._undo.pop()()
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread is in a pass, and let none begin."""
        self._changed.acquire()
        self._forks += 1
        self._running -= bool(self._depth)
        self._changed.notify_all()
        self._changed.wait_for(lambda: not self._running)
        self._is_told = PARALLELISM not in os.environ
        os.environ.setdefault(PARALLELISM, "false")

    def after_fork(self) -> None:
        self._running += bool(self._depth)
        self._forks -= 1
        if self._is_told:
            os.environ.pop(PARALLELISM, None)
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """No other thread is here, of torch's and of tokenizers' neither."""
        self._changed = threading.Condition()
        self._running, self._forks = int(bool(self._depth)), 0
        torch.set_num_threads(1)


_passes = _Passes()


class isolated(ContextDecorator):
    """Disable other code's autocast, inference mode and reduced float32 precision. A context manager and decorator."""

    def _recreate_cm(self) -> "isolated":
        return isolated()

    def __enter__(self) -> None:
        _passes.begin()
        self._undone = _undone() if _is_disturbed() else None

    def __exit__(self, *error: object) -> None:
        if self._undone is not None:
            self._undone.close()
        _passes.end()


def _is_disturbed() -> bool:
    return torch.is_inference_mode_enabled() or True in map(torch.is_autocast_enabled, DEVICES)


def _undone() -> ExitStack:
    """Entered already."""
    undone = ExitStack()
    if torch.is_inference_mode_enabled():
        undone.enter_context(torch.inference_mode(False))
    for name in DEVICES:
        if torch.is_autocast_enabled(name):
            undone.enter_context(torch.autocast(name, enabled=False))
    return undone


@contextmanager
def building() -> Iterator[None]:
    """Make weights on the CPU, whatever the default device, and with gradients. A context manager and decorator."""
    with isolated(), torch.device("cpu"):
        yield


def _use_all_bits() -> list[Callable[[], object]]:
    """Multiply float32 with all bits from now on; what undoes it."""
    undo: list[Callable[[], object]] = []
    if _how is None or _multiply_so is None:
        if (name := torch.get_float32_matmul_precision()) != "highest":
            torch.set_float32_matmul_precision("highest")
            undo.append(partial(torch.set_float32_matmul_precision, name))
        return undo
    for backend in MULTIPLIERS:
        if (name := _how(backend, "matmul")) not in EXACT:
            _multiply_so(backend, "matmul", EXACT[0])
            undo.append(partial(_multiply_as_before, backend, name))
    return undo


def _multiply_as_before(backend: str, name: str) -> None:
    """By torch's setting for all products where this backend had none."""
    assert _how is not None
    assert _multiply_so is not None
    _multiply_so(backend, "matmul", "none")
    if _how(backend, "matmul") != name:
        _multiply_so(backend, "matmul", name)


@functools.cache
def survive_forks() -> None:
    """From now on, let forks wait for passes, and let forked children use one thread in torch and tokenizers.

    A fork copies the state of the libraries but not their threads, so the child would wait for them for ever. Does
    nothing if the system cannot fork.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_passes.before_fork, after_in_parent=_passes.after_fork, after_in_child=_passes.after_fork_in_child
        )
