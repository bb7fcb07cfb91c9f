"""Handle Ctrl-C: the first one lets the current step finish, the second one does not."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType

ECHO = 1.0  # seconds in which a second SIGTERM is the first one again
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, remembers an interrupt instead of raising KeyboardInterrupt during a step.

    Does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self, *, is_one_of_many: bool = False) -> None:
        """is_one_of_many: ignore the second SIGTERM, which torchrun sends when the first process has ended."""
        self.asked = False
        self._is_one_of_many = is_one_of_many
        self._asked_at = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self.asked and self._is_one_of_many and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal. SIGTERM stays caught for a moment: it may come twice, to the group and passed on."""
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
            self._restore(signal.SIGINT)
        elif time.monotonic() - self._asked_at > ECHO:
            self._restore(signal.SIGTERM)
            os.kill(os.getpid(), number)

    def _restore(self, *numbers: signal.Signals) -> None:
        for number in numbers or SIGNALS:
            if number in self._before:
                signal.signal(number, self._before.pop(number))  # type: ignore[arg-type]
