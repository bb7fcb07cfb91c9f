"""Progress bars of commands that take longer than two seconds: on standard error, if that is a terminal."""

from typing import Any

from tqdm import tqdm


def bar(total: int | None, *, what: str, unit: str) -> Any:
    """A tqdm bar, to be used as a context manager.

    total: number of units, None if unknown.
    what: label in front of the bar.
    """
    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False, disable=None, delay=2)
