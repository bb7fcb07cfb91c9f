"""A progress line on the terminal: pieces per second, losses, time left. Silent if there is no terminal."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType

from tqdm import tqdm

from spacy_electra.training.loop import StepResult

FORMAT = "{l_bar}{bar}| {postfix}"
THOUSANDTHS = 1000  # of the budget, in thousandths


class RunProgress:
    """A progress bar over the budget of a run."""

    def __init__(self, *, pieces_per_row: float, is_shown: bool = True) -> None:
        self.pieces_per_row = pieces_per_row
        self.first: StepResult | None = None  # what speed and time left are measured from
        self.losses = ""
        is_disabled = None if is_shown else True  # None: no bar where stderr is no terminal
        self.bar = tqdm(total=THOUSANDTHS, bar_format=FORMAT, leave=False, disable=is_disabled, desc="pretrain")

    def __enter__(self) -> "RunProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def aside(self) -> AbstractContextManager[None]:
        """Hide the bar until the block ends, so that other output can be printed."""
        away: AbstractContextManager[None] = tqdm.external_write_mode(file=sys.stdout)
        return away

    def __call__(self, result: StepResult) -> None:
        if self.first is None:
            self.first = result
            return
        seconds = result.state.seconds - self.first.state.seconds
        gained = result.progress - self.first.progress
        if result.evaluation is not None:
            self.losses = ", ".join(f"{name} {loss:.3f}" for name, loss in result.evaluation.losses.items())
        if seconds <= 0 or gained <= 0:
            return
        speed = (result.state.row - self.first.state.row) * self.pieces_per_row / seconds
        left = clock_time((1.0 - result.progress) * seconds / gained)
        told = [f"step {result.state.step:,}", f"{speed:,.0f} pieces/s", self.losses, f"{left} left"]
        self.bar.set_postfix_str(", ".join(filter(None, told)), refresh=False)
        self.bar.update(int(result.progress * THOUSANDTHS) - self.bar.n)


def clock_time(seconds: float) -> str:
    """Minutes and seconds, with hours if there are any: 1:02:03."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
