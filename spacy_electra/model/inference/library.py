"""The kernels in C (`model/kernels/`) as a shared library: where it lies, why it cannot be loaded, what a call answers.

They are compiled when the package is installed, on Linux on x86-64 and where there is a compiler.
"""

import logging
import sys
from ctypes import CDLL
from functools import cache
from pathlib import Path

logger = logging.getLogger("spacy_electra")

INTERFACE = 4  # to be raised here and in products.h with every change of a structure or of how weights are packed
DONE, NO_MEMORY, REFUSED = 0, 1, 2  # what a call answers, as checks.h has it
FOLDER = Path(__file__).parents[1]
ENCODER = "encoder"  # the library of predictions


def library(name: str) -> CDLL:
    """The kernels of this name, where they can be loaded."""
    loaded = _load(name)
    assert isinstance(loaded, CDLL)
    return loaded


def load_error(name: str) -> str | None:
    """Why the kernels of this name cannot be loaded; None where they can."""
    loaded = _load(name)
    return None if isinstance(loaded, CDLL) else loaded


def check_answer(answer: int, *, work: str) -> None:
    """Raise MemoryError or ValueError where a call of the kernels did no work. work: what it was to do."""
    if answer == NO_MEMORY:
        raise MemoryError(f"can't allocate memory for {work}: shorter windows or fewer threads need less.")
    if answer != DONE:
        raise ValueError(f"the kernels refuse {work}: its numbers are out of range, or do not fit each other.")


@cache
def _load(name: str) -> CDLL | str:
    """The library, or why there is none: not compiled, or for another version or system than this."""
    path = FOLDER / f"_kernels_{name}.so"
    if not path.is_file():
        return _told("they were not compiled when this package was installed")
    try:
        loaded = CDLL(str(path))
        if loaded.spacy_electra_interface() == INTERFACE:
            return loaded
    except (OSError, AttributeError) as error:
        return _told(str(error))
    return _told("they were compiled from another version of this package")


def _told(reason: str) -> str:
    if sys.platform == "linux":
        logger.info(
            "This processor could run this package's kernels in C, which cannot be loaded: %s. torch does the same "
            "more slowly. Where there is a C compiler (gcc 10 or newer), installing the package again compiles them.",
            reason,
        )
    return reason
